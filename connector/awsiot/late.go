package awsiot

import "time"

// late is a publish that nobody waits for any more, and that the server may yet
// acknowledge.
type late struct {
	free  func() // gives its place in flight back; must not block
	timer *time.Timer
}

// hold keeps the packet id of a publish that was given up, until it is
// acknowledged, the link is lost, or for a while; then free is called. It is
// false where the acknowledgement has come meanwhile.
func (l *link) hold(id uint16, d time.Duration, free func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.waiting[id]; !ok || l.isLost {
		return false
	}
	w := &late{free: free}
	w.timer = time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.release(id, w)
	})
	l.waiting[id] = waiter{late: w}
	return true
}

// release ends the holding of a packet id, if it is held so. The lock is held.
func (l *link) release(id uint16, w *late) {
	if l.waiting[id].late != w {
		return
	}
	delete(l.waiting, id)
	w.timer.Stop()
	w.free()
}

// letGo ends all holding.
func (l *link) letGo() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, w := range l.waiting {
		if w.late != nil {
			l.release(id, w.late)
		}
	}
}
