package backup

import (
	"archive/tar"
	"context"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"
)

// Restore makes the streams of an archive on a server that has none.
func (a *Archive) Restore(ctx context.Context, nc *nats.Conn) error {
	streams := map[string]Stream{}
	for _, s := range a.Streams {
		streams[s.Name] = s
	}
	pace := rate.NewLimiter(restoreRate, restoreBurst)
	var current *restorer
	end := func() error {
		if current == nil {
			return nil
		}
		if err := current.end(); err != nil {
			return fmt.Errorf("backup: restore the stream %s: %w", current.stream.Name, err)
		}
		current = nil
		return nil
	}
	err := a.each(func(h *tar.Header, r io.Reader) (err error) {
		name, ok := streamOf(h.Name)
		if !ok {
			return nil
		}
		if current == nil || current.stream.Name != name {
			if err := end(); err != nil {
				return err
			}
			if current, err = beginRestore(ctx, nc, streams[name], pace); err != nil {
				return fmt.Errorf("backup: restore the stream %s: %w", name, err)
			}
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{current}, r, make([]byte, pieceSize)); err != nil {
			return fmt.Errorf("backup: restore the stream %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return end()
}
