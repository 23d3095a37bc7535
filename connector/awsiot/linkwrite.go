package awsiot

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"time"

	"sluice"
)

const (
	// writeTimeout bounds one write: a peer that takes nothing for so long is gone.
	writeTimeout = 10 * time.Second
	// lastWordTimeout is how long a link that cannot be written to is read from.
	lastWordTimeout = time.Second
	// maxKept is the room that is kept from one write to the next: not that of
	// a rare large packet.
	maxKept = 64 << 10
)

// writer gathers the packets of a link. One of those who add a packet writes
// all that was gathered, in one TLS record and one system call; meanwhile the
// next ones gather.
type writer struct {
	wmu      sync.Mutex
	out      []byte // whole packets that are to be written
	spare    []byte
	writing  bool
	added    uint64    // bytes that were ever in out
	done     uint64    // those that are written
	written  sync.Cond // done has grown, or writing failed; of wmu
	writeErr error     // why writing failed, for good
	deadline time.Time // of the wire's writes; it belongs to who is writing
}

// Lock and Unlock enclose the writes of one packet by paho; Unlock sends it.
func (l *link) Lock() { l.wmu.Lock() }

// Unlock sends what was written since Lock, and returns when it is sent: after a
// DISCONNECT paho closes the wire. It learns of a failure by its reader.
func (l *link) Unlock() {
	if l.writing {
		_ = l.await(l.added)
	} else {
		_ = l.flush()
	}
	l.wmu.Unlock()
}

// await waits until so many bytes are written. wmu is held, but not meanwhile.
func (l *link) await(n uint64) error {
	for l.done < n && l.writeErr == nil {
		l.written.Wait()
	}
	return l.writeErr
}

// Write gathers a part of a packet. paho calls it between Lock and Unlock.
func (l *link) Write(b []byte) (int, error) {
	if l.writeErr != nil {
		return 0, l.writeErr
	}
	l.out = append(l.out, b...)
	l.added += uint64(len(b))
	return len(b), nil
}

// publish writes a PUBLISH packet. A packet id of 0 means QoS 0. With wait, and
// with QoS 0, it returns once the packet is written; else perhaps before: the
// acknowledgement tells, or the loss of the link.
func (l *link) publish(id uint16, topic string, m *sluice.Message, wait bool) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	if l.writeErr != nil {
		return l.writeErr
	}
	before := len(l.out)
	l.out = appendPublish(l.out, id, topic, m)
	l.added += uint64(len(l.out) - before)
	if !l.writing {
		l.writing = true
		l.wmu.Unlock()
		runtime.Gosched() // whoever is ready adds his packet
		l.wmu.Lock()
		return l.flush()
	}
	if id != 0 && !wait {
		return nil
	}
	return l.await(l.added)
}

// flush writes what was gathered, and what gathers meanwhile. wmu is held, but
// not while the wire is written to. Nobody else is writing.
func (l *link) flush() error {
	l.writing = true
	for len(l.out) > 0 && l.writeErr == nil {
		batch := l.out
		l.out = l.spare[:0]
		l.wmu.Unlock()
		err := l.writeAll(batch)
		l.wmu.Lock()
		l.done += uint64(len(batch))
		if cap(batch) > maxKept {
			batch = nil
		}
		l.spare = batch
		if err != nil {
			l.writeErr = err
		}
		l.written.Broadcast()
	}
	l.writing = false
	return l.writeErr
}

func (l *link) writeAll(batch []byte) error {
	var err error
	if now := time.Now(); l.deadline.Sub(now) < writeTimeout-time.Second { // it costs as much as a tenth of the write
		l.deadline = now.Add(writeTimeout)
		err = l.SetWriteDeadline(l.deadline)
	}
	if err == nil {
		_, err = l.Conn.Write(batch)
	}
	if err != nil {
		// The reader ends, and with it the session: at once where the peer
		// takes nothing, else once it has read the peer's last word, a TLS
		// alert or a DISCONNECT, which tells why writing failed.
		wait := lastWordTimeout
		if errors.Is(err, os.ErrDeadlineExceeded) {
			l.failed(err)
			wait = 0
		}
		_ = l.SetReadDeadline(time.Now().Add(wait))
	}
	return err
}
