package store

import (
	"slices"
	"sync"

	"sluice"
)

// maxFollow is how many events wait for a follower before the oldest are
// passed over.
const maxFollow = 4096

// follower hands events to a function, in a goroutine of its own.
type follower struct {
	mu    sync.Mutex
	queue []sluice.Event
	wake  chan struct{} // holds one token while queue is not empty
	quit  chan struct{}
	done  chan struct{}
}

// Follow calls f with each event that is recorded from now on, in order and
// one at a time, until stop is called. Record does not wait for f; a follower
// that is some thousand events behind misses the oldest. stop waits for a
// call of f that is under way, so f must not call it.
func (s *Store) Follow(f func(sluice.Event)) (stop func()) {
	w := &follower{
		wake: make(chan struct{}, 1),
		quit: make(chan struct{}),
		done: make(chan struct{}),
	}
	v := s.events
	v.mu.Lock()
	v.followers = append(v.followers, w)
	v.mu.Unlock()
	go w.run(f)
	return sync.OnceFunc(func() {
		v.mu.Lock()
		v.followers = slices.DeleteFunc(slices.Clone(v.followers), func(o *follower) bool { return o == w })
		v.mu.Unlock()
		close(w.quit)
		<-w.done
	})
}

// put hands the follower an event.
func (w *follower) put(e sluice.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= maxFollow {
		w.queue = w.queue[1:]
	}
	w.queue = append(w.queue, e)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *follower) run(f func(sluice.Event)) {
	defer close(w.done)
	for {
		select {
		case <-w.quit:
			return
		case <-w.wake:
		}
		for _, e := range w.take() {
			select {
			case <-w.quit:
				return
			default:
				f(e)
			}
		}
	}
}

func (w *follower) take() []sluice.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue := w.queue
	w.queue = nil
	return queue
}
