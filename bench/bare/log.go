package bare

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
)

// record is a report with its device.
type record struct {
	devEUI string
	body   []byte
	done   chan error // of one; nil for what was read again
}

// journal is a file that reports are appended to, one fsync for all that wait.
// It keeps no cursor: what is in the file is sent again after a start.
type journal struct {
	file *os.File

	mu      sync.Mutex
	waiting []*record
	signal  chan struct{} // of one
}

// openJournal opens the file and returns what is in it.
func openJournal(path string) (*journal, []*record, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	old, end, err := readRecords(f)
	if err == nil {
		_, err = f.Seek(end, io.SeekStart) // over what was cut off
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return &journal{file: f, signal: make(chan struct{}, 1)}, old, nil
}

func readRecords(r io.Reader) (all []*record, end int64, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		var head [20]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return all, end, ignoreEnd(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[16:]))
		if _, err := io.ReadFull(in, body); err != nil {
			return all, end, ignoreEnd(err)
		}
		all = append(all, &record{devEUI: string(head[:16]), body: body})
		end += int64(len(head) + len(body))
	}
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// add hands a record over; its answer comes on done.
func (j *journal) add(r *record) {
	j.mu.Lock()
	j.waiting = append(j.waiting, r)
	j.mu.Unlock()
	select {
	case j.signal <- struct{}{}:
	default:
	}
}

// run writes what waits until stop is closed: one write and one fsync for all
// of a group, then the answers, then the records go on to send.
func (j *journal) run(stop <-chan struct{}, send func(*record)) {
	var group []*record
	var out []byte
	for {
		select {
		case <-j.signal:
		case <-stop:
			return
		}
		j.mu.Lock()
		group, j.waiting = j.waiting, group[:0]
		j.mu.Unlock()
		out = out[:0]
		for _, r := range group {
			out = append(out, r.devEUI...)
			out = binary.BigEndian.AppendUint32(out, uint32(len(r.body)))
			out = append(out, r.body...)
		}
		_, err := j.file.Write(out)
		if err == nil {
			err = j.file.Sync()
		}
		for i, r := range group {
			r.done <- err
			if err == nil {
				send(r)
			}
			group[i] = nil
		}
	}
}
