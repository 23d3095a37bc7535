package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"sluice"
	"sluice/backup"
)

type backupCommand struct {
	remote
	Out     string `required:"" placeholder:"FILE" help:"Where the backup goes: a file that does not exist yet, or - for the standard output."`
	WithKey bool   `name:"with-key" help:"Put the key of the secrets in: who has the file then has the secrets."`
	KeyFile string `name:"key-file" placeholder:"FILE" help:"The key (default: secret.key in the data directory)."`
}

func (c *backupCommand) AfterApply() error {
	if err := c.check(); err != nil {
		return err
	}
	switch {
	case c.WithKey && c.Out == "-":
		return errors.New("--with-key needs a file: --out - is not one")
	case c.WithKey && c.KeyFile == "" && c.Data == "":
		return errors.New("--with-key needs the key: name the data directory with --data, or the key with --key-file")
	}
	if c.KeyFile == "" {
		c.KeyFile = filepath.Join(c.Data, "secret.key")
	}
	return nil
}

func (c *backupCommand) Run(p *process) error {
	if c.Out == "-" {
		return c.fetch(p.ctx, p.out)
	}
	if _, err := os.Lstat(c.Out); !errors.Is(err, fs.ErrNotExist) {
		return errExists(c.Out)
	}
	a, err := c.write(p.ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.errOut, "The backup is in %s: %d MiB, verified; all that was accepted before %s.\n", c.Out, (a.Size()+1<<20-1)>>20, a.Time.Format("2006-01-02 15:04:05 UTC"))
	if a.Key != nil {
		fmt.Fprintln(p.errOut, "The key of the secrets is in it: who has this file has the secrets. Keep it as you keep them.")
	} else {
		fmt.Fprintln(p.errOut, "The key of the secrets is not in it: keep a copy of secret.key elsewhere.")
	}
	return a.Close()
}

// write writes the backup under another name, verifies it, and gives it its
// name then.
func (c *backupCommand) write(ctx context.Context) (*backup.Archive, error) {
	f, err := os.CreateTemp(filepath.Dir(c.Out), "."+filepath.Base(c.Out)+".*")
	if err != nil {
		return nil, cannotWrite(c.Out, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has its own name by then
	err = c.fetch(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if c.WithKey {
		key, err := os.ReadFile(c.KeyFile)
		if err == nil {
			err = backup.AddKey(f.Name(), key)
		}
		if err != nil {
			return nil, err
		}
	}
	a, err := backup.Open(f.Name())
	if err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), c.Out); err != nil { // does not overwrite
		_ = a.Close() // was only read
		if errors.Is(err, fs.ErrExist) {
			return nil, errExists(c.Out)
		}
		return nil, cannotWrite(c.Out, err)
	}
	return a, syncDir(filepath.Dir(c.Out))
}

// fetch asks for a backup, and fails where it does not come whole.
func (c *backupCommand) fetch(ctx context.Context, w io.Writer) error {
	response, err := c.call(ctx, http.MethodGet, "/backup", "A Sluice that is stopped is backed up by copying its data directory.")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	check := backup.NewChecker()
	if _, err := io.Copy(io.MultiWriter(w, check), response.Body); err != nil {
		return fmt.Errorf("the backup was cut off: %w", err)
	}
	if err := check.Err(); err != nil {
		return fmt.Errorf("the backup has not come whole: %w", err)
	}
	return nil
}

func errExists(name string) error {
	return &sluice.Error{Code: sluice.CodeConflict, Message: name + " exists already", Hint: "Choose another name: a backup overwrites nothing."}
}

func cannotWrite(name string, err error) error {
	return &sluice.Error{Code: sluice.CodeInternal, Message: name + " cannot be written", Hint: "Check its directory, who owns it, and the disk.", Err: err}
}

func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return cannotWrite(name, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return cannotWrite(name, err)
	}
	return nil
}
