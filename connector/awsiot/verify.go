package awsiot

import (
	"time"

	"sluice"
)

const (
	// verifyShare is the most of DescribeThing's quota that is spent on things
	// in the background: a tenth.
	verifyShare = 0.1
	// verifyAhead is how many things are looked at at once where that was
	// asked for.
	verifyAhead = 500
)

// verify looks at all things that are remembered, one after the other, spread
// over a round: publishing to a thing that was deleted does not fail, so
// nothing else would tell.
func (r *registry) verify() {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	hurry := false
	for {
		known := r.knownThings()
		pause := max(r.round/time.Duration(max(24, len(known))), r.slowest())
		for len(known) > 0 && hurry {
			if !r.hasRoom(t) {
				return
			}
			r.verifyOne(known[0])
			known = known[1:]
		}
		next := time.Now()
		for hurry = false; !hurry; {
			t.Reset(time.Until(next.Add(pause)))
			select {
			case <-r.ctx.Done():
				return
			case <-r.refresh:
				hurry = true
				continue
			case <-r.timeFor(t):
			}
			next = time.Now()
			if len(known) == 0 {
				break
			}
			r.verifyOne(known[0])
			known = known[1:]
		}
	}
}

// timeFor is the timer's channel, nil where no rounds are made.
func (r *registry) timeFor(t *time.Timer) <-chan time.Time {
	if r.round == 0 {
		return nil
	}
	return t.C
}

// slowest is the least pause between two things in the background.
func (r *registry) slowest() time.Duration {
	return time.Duration(float64(time.Second) / (quota(actionDescribe) * verifyShare))
}

// hasRoom waits until not too many things are being looked at; false: the
// registry is closing.
func (r *registry) hasRoom(t *time.Timer) bool {
	for {
		r.mu.Lock()
		full := len(r.look.spare) >= verifyAhead
		r.mu.Unlock()
		if !full {
			return r.ctx.Err() == nil
		}
		t.Reset(100 * time.Millisecond)
		select {
		case <-t.C:
		case <-r.ctx.Done():
			return false
		}
	}
}

// knownThings are the DevEUIs of the things that are remembered. As numbers
// they take half of the memory.
func (r *registry) knownThings() []uint64 {
	var known []uint64
	for devEUI, t := range r.d.spec.Things.All() {
		if r.wish.isThere(t) {
			known = append(known, numberOf(devEUI))
		}
	}
	return known
}

// verifyOne begins to look at a thing.
func (r *registry) verifyOne(number uint64) {
	devEUI := euiOf(number)
	t, ok := r.d.spec.Things.Get(devEUI)
	if !ok || !r.wish.isThere(t) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.jobs[devEUI] != nil || len(r.jobs) >= maxSpareJobs {
		return
	}
	j := r.newJob(devEUI, r.nameOfKnown(devEUI, t))
	j.spare, j.verify, j.known, j.mark = true, true, t, t.Mark
	r.release(j)
	r.enlist(j)
}

// Refresh has all things that are remembered be looked at now.
func (d *dialer) Refresh() (things int, err error) {
	if d.registry == nil {
		return 0, &sluice.Error{
			Code: sluice.CodeConflict, Message: "The connection registers no things: it has no access key.",
			Hint: "Give accessKeyId and secretAccessKey.",
		}
	}
	select {
	case d.registry.refresh <- struct{}{}:
	default: // it was asked for just before
	}
	return len(d.registry.knownThings()), nil
}
