package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sluice"
)

var (
	errCutOff  = errors.New("its end is missing")
	errDamaged = errors.New("its checksum is wrong")
)

// Archive is an archive that was found whole.
type Archive struct {
	Manifest
	// Key is the text of the key file, nil where it is not in the archive.
	Key []byte

	file *os.File
	sum  *Checker
}

// Open opens an archive and verifies all of it. Its errors are [*sluice.Error]s
// that say what is wrong with the file. The caller closes the archive.
func Open(name string) (*Archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	a := &Archive{file: f, sum: NewChecker()}
	if err := a.verify(name); err != nil {
		_ = f.Close() // the first error tells more
		return nil, err
	}
	return a, nil
}

// Close closes the archive's file.
func (a *Archive) Close() error { return a.file.Close() }

// Size is that of the file.
func (a *Archive) Size() int64 { return a.sum.size }

func (a *Archive) verify(name string) error {
	if err := readHead(name, a.file); err != nil {
		return err
	}
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return unreadable(name, err)
	}
	if _, err := io.CopyBuffer(a.sum, struct{ io.Reader }{a.file}, make([]byte, pieceSize)); err != nil {
		return unreadable(name, err)
	}
	switch err := a.sum.Err(); {
	case errors.Is(err, errCutOff):
		return &sluice.Error{
			Code: sluice.CodeInvalid, Message: fmt.Sprintf("the backup %s is not complete: %v", name, err),
			Hint: "It was cut off while it was written or copied. Copy it again, or use another. Nothing was restored.",
		}
	case err != nil:
		return damaged(name, err)
	}
	if err := a.contents(); err != nil {
		return damaged(name, err)
	}
	return nil
}

// readHead tells what is no backup, and what is one of another format.
func readHead(name string, r io.Reader) error {
	t := tar.NewReader(r)
	h, err := t.Next()
	if err != nil || h.Name != headName {
		return &sluice.Error{
			Code: sluice.CodeInvalid, Message: name + " is not a backup of Sluice",
			Hint: "Name a file that 'sluice backup' or GET /backup has made.",
		}
	}
	var begin head
	if err := json.NewDecoder(io.LimitReader(t, maxText)).Decode(&begin); err != nil {
		return damaged(name, err)
	}
	if begin.Format == Format {
		return nil
	}
	e := &sluice.Error{
		Code:    sluice.CodeConflict,
		Message: fmt.Sprintf("the backup %s has format %d, made by Sluice %s; this Sluice reads format %d", name, begin.Format, begin.Sluice, Format),
		Hint:    "Restore it with the Sluice that made it, then start the new one on the directory.",
	}
	if begin.Format > Format {
		e.Hint = "A newer Sluice has made it: restore it with that one."
	}
	return e
}

// contents reads the manifest and compares the streams with it.
func (a *Archive) contents() error {
	sums := map[string]string{}
	sum, size, current := sha256.New(), map[string]int64{}, ""
	done := func() {
		if current != "" {
			sums[current] = hex.EncodeToString(sum.Sum(nil))
			sum.Reset()
		}
	}
	err := a.each(func(h *tar.Header, r io.Reader) (err error) {
		stream, isStream := streamOf(h.Name)
		if stream != current {
			done()
			current = stream
		}
		switch {
		case isStream:
			n, err := io.Copy(sum, r)
			size[stream] += n
			return err
		case h.Name == manifestName:
			return json.NewDecoder(io.LimitReader(r, maxText)).Decode(&a.Manifest)
		case h.Name == keyName:
			a.Key, err = io.ReadAll(io.LimitReader(r, maxText))
		}
		return err
	})
	if err != nil {
		return err
	}
	if a.Format != Format || len(a.Streams) != len(sums) {
		return errors.New("what is in it is not what it says")
	}
	for _, s := range a.Streams {
		if sums[s.Name] != s.SHA256 || size[s.Name] != s.Size {
			return fmt.Errorf("the stream %s is not what it was", s.Name)
		}
	}
	return nil
}

// each hands each entry to f, from the first to the last.
func (a *Archive) each(f func(h *tar.Header, r io.Reader) error) error {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	t := tar.NewReader(a.file)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(h, t)
		}
		if err != nil {
			return err
		}
	}
}

// streamOf returns the stream that an entry is a piece of.
func streamOf(name string) (stream string, ok bool) {
	rest, ok := strings.CutPrefix(name, streamFolder)
	if !ok {
		return "", false
	}
	stream, _, ok = strings.Cut(rest, "/")
	return stream, ok
}

// AddKey puts a key file's text into an archive. Why here and not where the
// archive is made: so the key never goes over a wire, and the REST API never
// gives it out.
func AddKey(name string, key []byte) error {
	a, err := Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // was only read
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return unreadable(name, err)
	}
	_, err = f.Seek(a.sum.size-endSize, io.SeekStart)
	w := continued(f, a.sum.sum, a.Time)
	if err == nil {
		err = w.entry(keyName, key)
	}
	if err == nil {
		err = w.end()
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return unreadable(name, err)
	}
	return nil
}

func damaged(name string, err error) error {
	return &sluice.Error{
		Code: sluice.CodeInvalid, Message: fmt.Sprintf("the backup %s is damaged: %v", name, err),
		Hint: "Copy it again from where it was made, or use another. Nothing was restored.",
	}
}

func unreadable(name string, err error) error {
	return &sluice.Error{
		Code: sluice.CodeInternal, Message: fmt.Sprintf("the backup %s cannot be read or written", name),
		Hint: "Check that it exists, who owns it, and the disk.", Err: err,
	}
}
