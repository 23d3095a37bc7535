package awsiot

import (
	"fmt"
	"time"

	"sluice"
)

// cause is why things cannot be registered: one event tells it, however many
// devices it concerns, and another one when it is over.
type cause struct {
	text  string // for people
	jobs  int    // that it keeps from going on
	total int    // that it ever did
	began time.Time
	told  time.Time // zero: not yet
}

// maxCauses bounds the causes that are told apart.
const maxCauses = 64

// suffer notes why a job does not go on. Where that is for good its device
// need not wait. r.mu is held, as below.
func (r *registry) suffer(s *stage, j *job, f *refusal, tell bool) {
	c := r.cause(f.kind)
	c.text = f.Message
	if j.cause != c {
		r.heal(j)
		j.cause, j.causeAt = c, s
		c.jobs++
		c.total++
	}
	if !j.spare { // of those what is remembered is still true
		r.d.spec.Things.Put(j.devEUI, sluice.Thing{State: sluice.ThingFailed, Detail: f.Message})
	}
	if now := r.d.spec.Clock(); tell && (c.told.IsZero() || now.Sub(c.told) >= tellAgain) {
		c.told = now
		r.tellCause(c, j, f)
	}
	if f.final {
		r.release(j) // after all is told
	}
}

func (r *registry) cause(kind string) *cause {
	if len(r.causes) >= maxCauses {
		for k, c := range r.causes {
			if c.jobs == 0 {
				delete(r.causes, k)
			}
		}
		if len(r.causes) >= maxCauses {
			kind = "others"
		}
	}
	c := r.causes[kind]
	if c == nil {
		c = &cause{}
		r.causes[kind] = c
	}
	if c.jobs == 0 {
		c.total, c.began = 0, r.d.spec.Clock()
	}
	return c
}

func (r *registry) tellCause(c *cause, j *job, f *refusal) {
	told := f.Failure
	devEUI := j.devEUI
	if n := len(r.jobs); n > 1 && f.all {
		devEUI = ""
		told.Message += fmt.Sprintf(" %d devices wait for their things.", n)
	}
	told.Message += " Uplinks are sent all the same, and things are registered as soon as it works."
	r.d.record(sluice.LevelError, sluice.EventThingFailed, "Things not registered", devEUI, &told)
}

// heal notes that a job goes on.
func (r *registry) heal(j *job) {
	c := j.cause
	if c == nil {
		return
	}
	j.cause, j.causeAt = nil, nil
	if c.jobs--; c.jobs > 0 || c.told.IsZero() {
		return
	}
	text := "A thing is registered again that could not be"
	if c.total > 1 {
		text = fmt.Sprintf("Things are registered again; %d devices had to do without theirs", c.total)
	}
	took := r.d.spec.Clock().Sub(c.began).Round(time.Second)
	r.d.record(sluice.LevelInfo, sluice.EventThingRestored, "Things registered again", "",
		&sluice.Failure{Message: fmt.Sprintf("%s, for %s. It was: %s", text, took, c.text)})
}
