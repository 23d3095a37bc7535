package awsiot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice"
)

// errAgain has a job go on although its call came to nothing.
var errAgain = errors.New("something named is missing")

// The calls of the stages. Each notes on the job what it has found out; nil
// means that the job goes on, to whatever it needs next.

func (r *registry) runLook(ctx context.Context, j *job) error {
	t, err := r.api.describe(ctx, j.name)
	if err != nil {
		return err
	}
	j.looked, j.thing = true, t
	return nil
}

func (r *registry) runCreate(ctx context.Context, j *job) error {
	w := wanted{thingType: r.wish.thingType, attributes: j.attributes, billingGroup: r.wish.billingGroup}
	if j.bare {
		w.billingGroup = ""
	}
	existed, missing, err := r.api.create(ctx, j.name, w)
	switch {
	case missing && w.billingGroup != "":
		j.bare = true // one of both is missing: without the billing group it shows which
		return errAgain
	case missing:
		return r.api.noType(w.thingType, err)
	case err != nil:
		return err
	case existed: // somebody else made it just now, and otherwise
		j.looked = false
		return nil
	}
	j.thing = &described{thingType: w.thingType, attributes: w.attributes, billingGroup: w.billingGroup}
	j.relooked = false
	r.created.add(j.devEUI, j.name)
	return nil
}

func (r *registry) runAttach(ctx context.Context, j *job) error {
	found, err := r.api.attach(ctx, j.name, r.wish.principal)
	return r.changeDone(j, r.attach, found, err, func() *refusal { return r.api.noCertificate(r.wish.principal) })
}

func (r *registry) runGroup(ctx context.Context, j *job, s *stage, group string) error {
	found, err := r.api.addToGroup(ctx, j.name, group)
	return r.changeDone(j, s, found, err, func() *refusal { return r.api.noGroup(group) })
}

func (r *registry) runBill(ctx context.Context, j *job) error {
	found, err := r.api.addToBilling(ctx, j.name, r.wish.billingGroup)
	return r.changeDone(j, r.bill, found, err, func() *refusal { return r.api.noBillingGroup(r.wish.billingGroup) })
}

func (r *registry) runUpdate(ctx context.Context, j *job) error {
	found, err := r.api.update(ctx, j.name, j.attributes)
	if err == nil && found {
		r.mu.Lock()
		if len(r.changed) >= maxJobs {
			clear(r.changed)
		}
		r.changed[j.devEUI] = time.Now()
		r.mu.Unlock()
	}
	return r.changeDone(j, r.update, found, err, func() *refusal {
		return &refusal{kind: "lost", Failure: sluice.Failure{
			Reason: sluice.ReasonRejected, Message: fmt.Sprintf("AWS does not find the thing %s, which it has.", j.name),
		}}
	})
}

// changeDone notes that a stage is done with a job. Where AWS did not find what
// the call named, the thing may be gone: it is looked for again, and only if it
// is there the other thing is missing.
func (r *registry) changeDone(j *job, s *stage, found bool, err error, missing func() *refusal) error {
	switch {
	case err != nil:
		return err
	case found:
		j.done[s] = true
		j.relooked = false
		return nil
	case j.relooked || r.isBlocked(s):
		return missing()
	}
	j.relooked, j.looked = true, false
	return errAgain
}

// isBlocked reports whether it is known already what is missing.
func (r *registry) isBlocked(s *stage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.blocked != nil
}

// oddity is what is odd about a job's thing, for people.
func (r *registry) oddity(j *job) string {
	if j.adapts {
		return j.known.Detail
	}
	want := r.wish.thingType
	if !r.wish.create || want == "" || j.thing.thingType == want {
		return ""
	}
	r.d.tell(sluice.LevelWarning, sluice.EventThingFailed, "Thing of another type", "type "+j.thing.thingType, j.devEUI, &sluice.Failure{
		Reason:  sluice.ReasonConfiguration,
		Message: fmt.Sprintf("Thing %s exists with the thing type %q, not %q. It is used as it is.", j.name, j.thing.thingType, want),
	})
	return fmt.Sprintf("It is of the thing type %q, not %q.", j.thing.thingType, want)
}
