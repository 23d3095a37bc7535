package awsiot

import (
	"context"
	"errors"
	"time"

	"sluice"
)

// strikes is how many calls in a row must be denied for all to be: a policy
// may deny a single thing.
const strikes = 3

// stage is one call that jobs need: its queue, its pace, and whether AWS takes
// it at all. Its fields are guarded by registry.mu.
type stage struct {
	action string
	budget *budget
	most   int // calls at once
	// run makes the call for a job. It is the job's only user meanwhile.
	run func(ctx context.Context, j *job) error

	urgent, spare []*job // to be called for; some may have gone on meanwhile
	busy          int    // callers at work
	blocked       *refusal
	until         time.Time // nothing is called before, while blocked
	tries         int       // that failed in a row
	denied        int       // in a row
	timer         *time.Timer
}

func (r *registry) makeStages(of *account) {
	stage := func(action string, run func(context.Context, *job) error) *stage {
		return &stage{action: action, budget: of.budget(action), most: callers(action), run: run}
	}
	r.look = stage(actionDescribe, r.runLook)
	r.create = stage(actionCreate, r.runCreate)
	r.attach = stage(actionAttach, r.runAttach)
	r.bill = stage(actionBilling, r.runBill)
	r.update = stage(actionUpdate, r.runUpdate)
	for _, name := range r.wish.groups {
		s := stage(actionGroup, nil)
		s.run = func(ctx context.Context, j *job) error { return r.runGroup(ctx, j, s, name) }
		r.groups = append(r.groups, s)
	}
}

func (r *registry) stages() []*stage {
	return append([]*stage{r.look, r.create, r.attach, r.bill, r.update}, r.groups...)
}

// next is the stage that a job is to go to; nil: it is over.
func (r *registry) next(j *job) *stage {
	switch {
	case !j.looked:
		return r.look
	case j.thing == nil && (!r.wish.create || j.spare):
		return nil
	case j.thing == nil:
		return r.create
	case !r.wish.create, j.verify && j.known.Tag == r.wish.tag:
		return nil
	}
	var first *stage
	for _, s := range r.rest(j) {
		if s.blocked == nil || !s.blocked.final {
			return s
		}
		if first == nil {
			first = s
		}
	}
	return first
}

// rest are the stages that a thing still needs, in any order.
func (r *registry) rest(j *job) []*stage {
	var list []*stage
	if r.wish.principal != "" && !j.done[r.attach] {
		list = append(list, r.attach)
	}
	for _, s := range r.groups {
		if !j.done[s] {
			list = append(list, s)
		}
	}
	if r.wish.billingGroup != "" && j.thing.billingGroup != r.wish.billingGroup && !j.done[r.bill] {
		list = append(list, r.bill)
	}
	if lacks(j.thing.attributes, j.attributes) && !j.done[r.update] {
		list = append(list, r.update)
	}
	return list
}

// dispatch sends a job to its next stage, or ends it. Its device waits until
// the thing is there with its certificate; where that will not be until
// somebody changes something, it does not wait.
func (r *registry) dispatch(j *job) {
	s := r.next(j)
	j.at = s
	if s == nil {
		r.settle(j)
		return
	}
	if s != r.look && s != r.create && (s != r.attach || j.done[r.attach]) {
		r.release(j)
	}
	if f := s.blocked; f != nil {
		r.suffer(s, j, f, f.final || s.tries > 1)
	}
	s.push(j, j.spare || s == r.update)
	r.kick(s)
}

func (s *stage) push(j *job, spare bool) {
	if spare {
		s.spare = append(s.spare, j)
	} else {
		s.urgent = append(s.urgent, j)
	}
}

// pop takes the next job that is still to be called for; nil: there is none.
func (s *stage) pop() *job {
	for _, q := range []*[]*job{&s.urgent, &s.spare} {
		for len(*q) > 0 {
			j := (*q)[0]
			(*q)[0] = nil
			*q = (*q)[1:]
			if j.at == s && !j.running {
				return j
			}
		}
	}
	return nil
}

// kick has the callers of a stage at work. One of them finds out whether a
// stage that was blocked is so still.
func (r *registry) kick(s *stage) {
	most := s.most
	if s.blocked != nil {
		most = 1
		if time.Now().Before(s.until) {
			return
		}
	}
	if !r.closed && s.busy < most && s.busy < len(s.urgent)+len(s.spare) {
		s.busy++
		r.wait.Go(func() { r.call(s) })
	}
}

// call makes calls until there are none to make. The turn comes first: so a
// device that somebody waits for never stands behind one that nobody does.
func (r *registry) call(s *stage) {
	for {
		r.mu.Lock()
		if s.idle() || r.closed {
			s.busy--
			r.mu.Unlock()
			return
		}
		spare := len(s.urgent) == 0
		r.mu.Unlock()
		err := s.budget.wait(r.ctx, spare)
		r.mu.Lock()
		if err != nil || s.idle() {
			s.busy--
			r.mu.Unlock()
			return
		}
		j := s.pop()
		if j != nil {
			j.running = true
		}
		r.kick(s)
		r.mu.Unlock()
		if j != nil {
			r.called(s, j, s.run(r.ctx, j))
		}
	}
}

// idle reports whether a caller has nothing to do. While the stage is blocked
// one caller is enough.
func (s *stage) idle() bool {
	return len(s.urgent)+len(s.spare) == 0 || s.blocked != nil && (s.busy > 1 || time.Now().Before(s.until))
}

// called takes the result of a call.
func (r *registry) called(s *stage, j *job, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j.running = false
	if r.ctx.Err() != nil {
		return
	}
	if err == nil {
		s.tries, s.denied = 0, 0
		if j.causeAt == s {
			r.heal(j)
		}
		r.open(s)
		r.dispatch(j)
		return
	}
	if errors.Is(err, errAgain) {
		r.dispatch(j)
		return
	}
	f, ok := errors.AsType[*refusal](err)
	if !ok {
		f = &refusal{kind: "other", Failure: sluice.Failure{Reason: sluice.ReasonInternal, Message: "A thing could not be registered.", Err: err}}
	}
	all := f.all
	if f.Reason == sluice.ReasonNotAuthorized {
		s.denied++
		all = s.denied >= strikes
	}
	if all {
		r.block(s, f)
		r.dispatch(j)
		return
	}
	j.tries++
	r.suffer(s, j, f, f.final || j.tries > 1)
	j.at = nil
	j.timer = time.AfterFunc(r.pause(j.tries), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed {
			r.dispatch(j)
		}
	})
}

// pause is how long is waited after so many tries.
func (r *registry) pause(tries int) time.Duration {
	p := r.d.o.RetryThing << min(tries-1, 6)
	return p + time.Duration(r.d.o.Rand()*float64(p)/2)
}

// block keeps a stage from calling for a while. Calls that were under way and
// fail too change nothing.
func (r *registry) block(s *stage, f *refusal) {
	if s.blocked != nil && time.Now().Before(s.until) {
		return
	}
	s.tries++
	s.blocked = f
	pause := r.pause(s.tries)
	s.until = time.Now().Add(pause)
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(pause, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.kick(s)
	})
	if !f.final && s.tries == 1 {
		return // it may be over with the next call
	}
	// Those that wait need not, and may have something else to do meanwhile.
	for _, q := range [][]*job{s.take(), s.take()} {
		for _, j := range q {
			if j.at == s && !j.running {
				r.dispatch(j)
			}
		}
	}
}

// take takes a queue off a stage.
func (s *stage) take() []*job {
	q := s.urgent
	if len(q) == 0 {
		q, s.spare = s.spare, nil
		return q
	}
	s.urgent = nil
	return q
}

// open has a stage call again that was blocked.
func (r *registry) open(s *stage) {
	if s.blocked == nil {
		return
	}
	s.blocked = nil
	for _, q := range [][]*job{s.urgent, s.spare} {
		for _, j := range q {
			if j.at == s && j.causeAt == s {
				r.heal(j)
			}
		}
	}
	for range s.most {
		r.kick(s)
	}
}
