package store

import "sync"

// watch tells of changes of the configuration.
type watch struct {
	mu       sync.Mutex
	next     int
	watchers map[int]func()
	telling  bool // a goroutine is calling the watchers
	again    bool // something has changed since it began
}

// Watch asks for f to be called after each change of a connection, flow or
// network, until stop is called. f is called by the goroutine that made the
// change, before its call returns, and never twice at once: changes made by
// others meanwhile are told by one more call after it. f may read the store.
func (s *Store) Watch(f func()) (stop func()) {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.next
	w.next++
	if w.watchers == nil {
		w.watchers = make(map[int]func())
	}
	w.watchers[id] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watchers, id)
	}
}

// tell calls the watchers, or leaves it to the goroutine that is at it.
func (w *watch) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.again = true
	if w.telling {
		return
	}
	w.telling = true
	for w.again {
		w.again = false
		w.callAll()
	}
	w.telling = false
}

// callAll calls each watcher with the lock open.
func (w *watch) callAll() {
	calls := make([]func(), 0, len(w.watchers))
	for _, f := range w.watchers {
		calls = append(calls, f)
	}
	w.mu.Unlock()
	defer w.mu.Lock()
	for _, f := range calls {
		f()
	}
}
