package awsiot

import (
	"time"

	"sluice"
)

// scanFrom is how many devices must wait to be looked up for the lists to be
// read too: more than five seconds of DescribeThing.
//
// DescribeThing finds 350 things a second, ListThings 2,500 (ten pages of 250),
// but of all that there are, wanted or not. How many that is nobody tells
// beforehand. As AWS throttles both apart, both go on at once, each with what
// the other has not found yet: that is never slower than the faster of them.
const scanFrom = 1750

// How long no list is read after one that failed.
const (
	scanPause  = time.Minute
	scanDenied = time.Hour
)

// maybeScan reads the lists where that may be faster. r.mu is held.
func (r *registry) maybeScan() {
	from := r.d.o.ScanFrom
	if r.closed || r.scanning || len(r.look.urgent) < from || r.look.blocked != nil || time.Now().Before(r.scanNext[actionList]) || r.waiting(r.look) < from {
		return
	}
	r.scanning = true
	r.wait.Go(func() {
		attached := make(chan struct{})
		r.wait.Go(func() {
			defer close(attached)
			r.scanAttached()
		})
		r.scan()
		<-attached
		r.mu.Lock()
		defer r.mu.Unlock()
		r.scanning = false
		r.maybeScan()
	})
}

// scan goes through the list of things. What is not on it is not there, as
// long as all of it was read while the device waited; CreateThing corrects what
// is wrong about that, and where nothing is created each device is asked for.
func (r *registry) scan() {
	began := time.Now()
	thingType := r.wish.thingType
	if !r.wish.create {
		thingType = "" // any type will do
	}
	var token *string
	for {
		if r.api.account.budget(actionList).wait(r.ctx, false) != nil {
			return
		}
		page, next, err := r.api.list(r.ctx, thingType, token)
		if err != nil {
			r.scanFailed(actionList, err)
			return
		}
		if !r.listed(page) {
			return
		}
		if token = next; token == nil {
			break
		}
	}
	if r.wish.create {
		r.unlisted(began)
	}
}

// listed takes a page; false: nobody waits for the next one.
func (r *registry) listed(page map[string]*described) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, t := range page {
		if j := r.names[name]; j != nil && j.at == r.look && !j.running {
			j.looked, j.thing = true, t
			r.dispatch(j)
		}
	}
	return r.waiting(r.look) > 0
}

// unlisted has the things made that were on no page.
func (r *registry) unlisted(began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, j := range r.look.urgent {
		if j.at == r.look && !j.running && j.since.Before(began) {
			j.looked = true
			r.dispatch(j)
		}
	}
}

// scanAttached goes through the things that the certificate is attached to, so
// that it need not be attached to them once more.
func (r *registry) scanAttached() {
	r.mu.Lock()
	later := time.Now().Before(r.scanNext[actionListPrincipal])
	r.mu.Unlock()
	if later || !r.wish.create || r.wish.principal == "" {
		return
	}
	var token *string
	for {
		if r.api.account.budget(actionListPrincipal).wait(r.ctx, false) != nil {
			return
		}
		page, next, err := r.api.listAttached(r.ctx, r.wish.principal, token)
		if err != nil {
			r.scanFailed(actionListPrincipal, err)
			return
		}
		if token = next; !r.areAttached(page) || token == nil {
			return
		}
	}
}

func (r *registry) areAttached(page []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range page {
		j := r.names[name]
		if j == nil || j.running {
			continue
		}
		j.done[r.attach] = true
		if j.at == r.attach {
			r.dispatch(j)
		}
	}
	return r.waiting(r.look)+r.waiting(r.attach) > 0
}

// waiting is how many devices wait in a stage. r.mu is held.
func (r *registry) waiting(s *stage) (n int) {
	for _, j := range s.urgent {
		if j.at == s && !j.running {
			n++
		}
	}
	return n
}

// scanFailed tells once what it costs that a list cannot be read.
func (r *registry) scanFailed(action string, err error) {
	if r.ctx.Err() != nil {
		return
	}
	f, ok := err.(*refusal) //nolint:errorlint // made here
	pause := scanPause
	if ok && f.final {
		pause = scanDenied
		told := f.Failure
		told.Message += " Many devices that are seen for the first time are registered more slowly without it: 350 a second are looked up, instead of up to 2,500."
		if action == actionListPrincipal {
			told.Message = f.Message + " Many devices that are seen for the first time are registered more slowly without it: the certificate is attached once more to things that have it, 100 a second."
		}
		r.d.tell(sluice.LevelWarning, sluice.EventThingFailed, "Things not listed", f.kind, "", &told)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scanNext[action] = time.Now().Add(pause)
}
