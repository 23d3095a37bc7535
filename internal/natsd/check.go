package natsd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/minio/highwayhash"
)

// Names of the files of a stream. Source: nats-server, server/filestore.go.
const (
	blockSuffix = ".blk"
	messagesDir = "msgs"
	metaFile    = "meta.inf"
	metaSumFile = "meta.sum"
	indexFile   = "index.db"
	// damagedDir is beside the streams; maxDamaged bounds what is kept there.
	damagedDir = "damaged"
	maxDamaged = 16
	// readAhead is how many files the disk is asked for before they are read.
	readAhead = 8
)

// Damage is a file that was not what the server had written, and was mended
// before it read it: the server believes some numbers in a block before it
// looks at the checksum (a flipped bit in a sequence makes it fill the memory),
// and drops all of a block that follows on the first record that is wrong.
type Damage struct {
	Stream string // the stream's name
	File   string // the file's name: "7.blk"
	// Bytes is how many of a block were no record, in how many Holes, and
	// Records how many whole records were kept.
	Bytes, Holes, Records int
	// Torn tells that it was the end of a block that was not written to its
	// end: what a lost power supply leaves, and nothing that was acknowledged.
	Torn bool
	// Kept is a copy of the file as it was.
	Kept string
}

// String is a sentence.
func (d Damage) String() string {
	switch {
	case d.File == metaFile:
		return fmt.Sprintf("The description of the stream %s was damaged, and is written anew.", d.Stream)
	case d.Torn:
		return fmt.Sprintf("The last write to the stream %s was cut off: %d bytes of %s are dropped.", d.Stream, d.Bytes, d.File)
	}
	return fmt.Sprintf("The file %s of the stream %s was damaged: %d bytes in %d places are lost, %d records are kept. A copy is in %s.",
		d.File, d.Stream, d.Bytes, d.Holes, d.Records, d.Kept)
}

// check verifies every record of every stream below dir, and mends what is
// damaged. It must not run beside a server.
func check(dir string) ([]Damage, error) {
	streams, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*"))
	if err != nil {
		return nil, fmt.Errorf("natsd: %w", err)
	}
	c := &checker{damaged: filepath.Join(dir, damagedDir)}
	var blocks []string
	for _, s := range streams {
		if strings.HasPrefix(filepath.Base(s), ".") {
			continue // the server is deleting it
		}
		if err := c.meta(s); err != nil {
			return nil, err
		}
		found, err := filepath.Glob(filepath.Join(s, messagesDir, "*"+blockSuffix))
		if err != nil {
			return nil, fmt.Errorf("natsd: %w", err)
		}
		blocks = append(blocks, found...)
	}
	if err := c.blocks(blocks); err != nil {
		return nil, err
	}
	slices.SortFunc(c.found, func(a, b Damage) int { return strings.Compare(a.Stream+a.File, b.Stream+b.File) })
	return c.found, c.forget()
}

// checker is a run of check.
type checker struct {
	damaged string

	mu    sync.Mutex
	found []Damage
	err   error
}

// meta removes a stream's description when it is damaged. The server would
// leave out the stream; without a description it takes up what is there when
// the stream is made again, as it is at each start.
func (c *checker) meta(stream string) error {
	name := filepath.Base(stream)
	meta, err := os.ReadFile(filepath.Join(stream, metaFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("natsd: %w", err)
	}
	sum, sumErr := os.ReadFile(filepath.Join(stream, metaSumFile))
	if sumErr != nil && !errors.Is(sumErr, fs.ErrNotExist) {
		return fmt.Errorf("natsd: %w", sumErr)
	}
	if err != nil && sumErr != nil {
		return nil
	}
	key := sha256.Sum256([]byte(name))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	_, _ = h.Write(meta) // a hash takes all
	if hex.EncodeToString(h.Sum(nil)) == string(sum) {
		return nil
	}
	for _, f := range []string{metaFile, metaSumFile} {
		if err := os.Remove(filepath.Join(stream, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("natsd: %w", err)
		}
	}
	c.note(Damage{Stream: name, File: metaFile})
	return syncDir(stream)
}

func (c *checker) note(d Damage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = append(c.found, d)
}

// blocks checks files, several at a time.
func (c *checker) blocks(files []string) error {
	work := make(chan string)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		wg.Go(func() {
			var buf []byte
			for file := range work {
				if err := c.block(file, &buf); err != nil {
					c.mu.Lock()
					c.err = errors.Join(c.err, err)
					c.mu.Unlock()
				}
			}
		})
	}
	// A disk of the cloud gives twice as much when it is asked for several files
	// at once; the system's cache takes them, not our memory.
	for _, f := range files[:min(readAhead, len(files))] {
		ahead(f)
	}
	for i, f := range files {
		if next := i + readAhead; next < len(files) {
			ahead(files[next])
		}
		work <- f
	}
	close(work)
	wg.Wait()
	return c.err
}

// block checks a file and mends it. buf is memory to use again.
func (c *checker) block(file string, buf *[]byte) error {
	messages := filepath.Dir(file)
	stream := filepath.Base(filepath.Dir(messages))
	index, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(file), blockSuffix), 10, 32)
	if err != nil {
		return nil //nolint:nilerr // not a file of the server's
	}
	sum, err := blockHash(stream, uint32(index))
	if err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	if err := readFile(file, buf); err != nil {
		return fmt.Errorf("natsd: %w", err)
	}
	kept, found := mend(*buf, sum)
	if found.holes == 0 {
		return nil
	}
	d := Damage{
		Stream: stream, File: filepath.Base(file),
		Bytes: found.bytes, Holes: found.holes, Records: found.records, Torn: found.torn,
	}
	// The index first: it describes the block as it was, and the server
	// believes it.
	if err := os.Remove(filepath.Join(messages, indexFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("natsd: %w", err)
	}
	if d.Kept, err = c.replace(file, stream, kept); err != nil {
		return fmt.Errorf("natsd: mend %s: %w", file, err)
	}
	c.note(d)
	return nil
}

// readFile reads a file into memory that is used again. What the disk cannot
// read is read as zeros.
func readFile(name string, buf *[]byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := int(info.Size())
	*buf = slices.Grow((*buf)[:0], size)[:size]
	const page = 4096
	for at := 0; at < size; {
		n, err := f.ReadAt((*buf)[at:], int64(at))
		at += n
		if errors.Is(err, io.EOF) {
			*buf = (*buf)[:at]
			return nil
		}
		if err == nil {
			continue
		}
		bad := (*buf)[at:min(size, (at/page+1)*page)]
		clear(bad)
		at += len(bad)
	}
	return nil
}

// replace writes what is left of a block in its place, and keeps the file as
// it was in the folder of damaged ones.
func (c *checker) replace(file, stream string, content []byte) (kept string, err error) {
	if err := os.MkdirAll(c.damaged, 0o700); err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		kept = filepath.Join(c.damaged, fmt.Sprintf("%s-%s.%d", stream, filepath.Base(file), n))
		err := os.Link(file, kept)
		if err == nil {
			break
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		// A file system without links: the block is gone for a moment.
		if err := os.Rename(file, kept); err != nil {
			return "", err
		}
		break
	}
	if len(content) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return kept, syncDir(filepath.Dir(file))
	}
	mended := kept + ".mended"
	if err := writeFile(mended, content); err != nil {
		return "", err
	}
	if err := os.Rename(mended, file); err != nil {
		return "", err
	}
	return kept, syncDir(filepath.Dir(file))
}

func writeFile(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// forget removes the oldest copies when there are too many.
func (c *checker) forget() error {
	entries, err := os.ReadDir(c.damaged)
	if err != nil || len(entries) <= maxDamaged {
		return nil //nolint:nilerr // as a rule there is no such folder
	}
	infos := make([]fs.FileInfo, 0, len(entries))
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			infos = append(infos, info)
		}
	}
	slices.SortFunc(infos, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range infos[:len(infos)-maxDamaged] {
		if err := os.Remove(filepath.Join(c.damaged, info.Name())); err != nil {
			return fmt.Errorf("natsd: %w", err)
		}
	}
	return nil
}
