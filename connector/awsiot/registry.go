package awsiot

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"sluice"
)

const (
	// maxJobs is how many devices may wait for their things at once. The
	// uplinks of those above it are sent without waiting; their things are made
	// later.
	maxJobs = 100_000
	// maxSpareJobs is how many jobs there may be at most for one to be begun
	// that nobody waits for. What is not begun is with the device's next uplink.
	maxSpareJobs = 10_000
	// attributesPause is how long the attributes of a thing are not changed
	// again: a device whose reports differ must not cost a call each.
	attributesPause = 10 * time.Minute
)

// registry makes sure that devices are things: it asks once for each device,
// and makes the thing where it is missing and that is wanted.
//
// A device that is not known to be a thing has a job, which goes through the
// stages: one for each call of the API. Each stage has its own queue and pace,
// so that no job waits for calls that it does not need. A job that fails is
// tried again after a pause, for as long as the registry is open; its device
// waits for it only so long.
type registry struct {
	d       *dialer
	api     *things
	wish    wish
	timeout time.Duration
	round   time.Duration // in which all that is remembered is looked at; 0: never
	leave   func()        // gives the account back

	ctx     context.Context // of all calls; ends with close
	cancel  func()
	wait    sync.WaitGroup // for all goroutines
	refresh chan struct{}  // has all be looked at now

	look, create, attach, bill, update *stage
	groups                             []*stage // one for each group

	created, absent, deleted *gatherer // tell of things

	mu       sync.Mutex
	jobs     map[string]*job      // by DevEUI
	names    map[string]*job      // by the names of their things
	closed   bool                 //
	missing  map[string]time.Time // things that are not there, and when that was seen
	changed  map[string]time.Time // when attributes were changed last
	causes   map[string]*cause    // of what fails, by kind
	owners   map[uint64]uint64    // the devices by hashes of their things' names; nil where those are plain
	scanning bool
	scanNext map[string]time.Time // no list before, by its action
}

// job is the registration of one device.
type job struct {
	devEUI, name string
	attributes   map[string]string // wanted
	mark         uint64            // of those
	since        time.Time
	over         chan struct{} // closed once there is nothing to wait for
	isOver       bool
	missing      bool         // set before over is closed: the thing is not there, nor to be made
	spare        bool         // nobody waits for it
	verify       bool         // it looks whether the thing is still there
	adapts       bool         // it only changes the attributes
	known        sluice.Thing // what was remembered, where spare

	at       *stage // where it is queued or being called for
	running  bool
	tries    int // that failed
	timer    *time.Timer
	cause    *cause // why it fails
	causeAt  *stage
	looked   bool
	thing    *described // nil: looked, and there is none
	relooked bool       // AWS found something missing although the thing is there
	bare     bool       // to be made without its billing group
	done     map[*stage]bool
}

func newRegistry(d *dialer, in *accounts) (*registry, error) {
	timeout, err := time.ParseDuration(d.cfg.ProvisioningTimeout)
	if err != nil {
		return nil, fmt.Errorf("provisioningTimeout: %w", err)
	}
	round, err := time.ParseDuration(d.cfg.ThingCheckInterval)
	if err != nil {
		return nil, fmt.Errorf("thingCheckInterval: %w", err)
	}
	w, err := newWish(&d.cfg)
	if err != nil {
		return nil, err
	}
	r := &registry{
		d: d, wish: w, timeout: timeout, round: round, refresh: make(chan struct{}, 1),
		jobs: map[string]*job{}, names: map[string]*job{}, missing: map[string]time.Time{},
		changed: map[string]time.Time{}, scanNext: map[string]time.Time{}, causes: map[string]*cause{},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	of, leave := in.join(&d.cfg)
	r.leave = leave
	r.api = newThings(d, of)
	r.makeStages(of)
	r.makeGatherers()
	if !w.plain {
		r.owners = map[uint64]uint64{}
		for devEUI, t := range d.spec.Things.All() {
			if w.isThere(t) {
				r.owners[hashOf(t.Name)] = numberOf(devEUI)
			}
		}
	}
	r.wait.Go(r.verify)
	return r, nil
}

// prepare returns once the message's device is a thing, or the wait for it is
// over.
func (r *registry) prepare(ctx context.Context, m *sluice.Message) error {
	switch m.Kind {
	case sluice.KindBSAlarm, // a base station is no device
		sluice.KindDownlinkQueued, sluice.KindDownlinkRejected: // its DevEUI is what a command said, and may be none at all
		return nil
	}
	t, ok := r.d.spec.Things.Get(m.DevEUI)
	if ok && r.wish.isThere(t) {
		r.again(m, t)
		return nil
	}
	devEUI := strings.ToUpper(m.DevEUI)
	if r.isMissing(devEUI) {
		return r.missingFailure(devEUI)
	}
	j, refused := r.job(devEUI, m)
	if refused != nil {
		return r.unnamed(devEUI, refused)
	}
	if j == nil {
		return nil
	}
	return r.await(ctx, j)
}

// await waits for a job.
func (r *registry) await(ctx context.Context, j *job) error {
	t := time.NewTimer(r.timeout - time.Since(j.since))
	defer t.Stop()
	select {
	case <-j.over:
		if j.missing {
			return r.missingFailure(j.devEUI)
		}
	case <-t.C:
	case <-r.ctx.Done():
		return notConnected(sluice.ReasonDisconnected, nil, "The connection is closing.", "")
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// again has a thing that is there looked at once more where it is not as it is
// wanted now: the configuration has changed, or what the device tells of
// itself. Nobody waits for that.
func (r *registry) again(m *sluice.Message, t sluice.Thing) {
	switch {
	case t.Tag != r.wish.tag:
	case !r.wish.follows(m) || r.wish.mark(m) == t.Mark:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	devEUI := strings.ToUpper(m.DevEUI)
	if r.closed || r.jobs[devEUI] != nil || len(r.jobs) >= maxSpareJobs {
		return
	}
	j := r.newJob(devEUI, r.nameOfKnown(devEUI, t))
	j.spare, j.known, j.mark = true, t, t.Mark
	if r.wish.follows(m) {
		j.attributes, j.mark = r.wish.read(m)
	}
	if t.Tag == r.wish.tag {
		if time.Since(r.changed[devEUI]) < attributesPause {
			return
		}
		j.adapts, j.looked, j.thing = true, true, &described{thingType: r.wish.thingType, billingGroup: r.wish.billingGroup}
		j.done[r.attach] = true
		for _, g := range r.groups {
			j.done[g] = true
		}
	}
	r.release(j)
	r.enlist(j)
}

// nameOfKnown is the name of a thing that is remembered.
func (r *registry) nameOfKnown(devEUI string, t sluice.Thing) string {
	if t.Name != "" {
		return t.Name
	}
	return r.wish.nameFor(devEUI)
}

// unnamed tells that a device can have no thing. Where things are made, its
// uplinks go all the same.
func (r *registry) unnamed(devEUI string, f *refusal) error {
	r.d.spec.Things.Put(devEUI, sluice.Thing{State: sluice.ThingFailed, Detail: f.Message})
	r.d.tell(sluice.LevelError, sluice.EventThingFailed, "Thing not named", f.kind, devEUI, &f.Failure)
	if r.wish.create {
		return nil
	}
	return &f.Failure
}

func (r *registry) isMissing(devEUI string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, ok := r.missing[devEUI]
	if ok && time.Since(seen) > r.d.o.RecheckMissing {
		delete(r.missing, devEUI)
		return false
	}
	return ok
}

// job returns the job of a device, and begins it where there is none; nil
// where there are too many.
func (r *registry) job(devEUI string, m *sluice.Message) (*job, *refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j := r.jobs[devEUI]; j != nil {
		return j, nil
	}
	if len(r.jobs) >= maxJobs || r.closed {
		return nil, nil
	}
	name, refused := r.wish.nameOf(m)
	if refused != nil {
		return nil, refused
	}
	if refused := r.claim(devEUI, name); refused != nil {
		return nil, refused
	}
	j := r.newJob(devEUI, name)
	if r.wish.follows(m) {
		j.attributes, j.mark = r.wish.read(m)
	}
	r.d.spec.Things.Put(devEUI, sluice.Thing{State: sluice.ThingPending})
	r.enlist(j)
	return j, nil
}

func (r *registry) newJob(devEUI, name string) *job {
	return &job{devEUI: devEUI, name: name, since: time.Now(), over: make(chan struct{}), done: map[*stage]bool{}}
}

// enlist begins a job. r.mu is held, as below where nothing else is said.
func (r *registry) enlist(j *job) {
	r.jobs[j.devEUI], r.names[j.name] = j, j
	r.dispatch(j)
	r.maybeScan()
}

// settle ends a job.
func (r *registry) settle(j *job) {
	t := sluice.Thing{State: sluice.ThingRegistered, Tag: r.wish.tag, Mark: j.mark}
	switch {
	case j.thing != nil:
		t.Detail = r.oddity(j)
		if !r.wish.plain {
			t.Name = j.name
		}
	case j.spare:
		t = r.gone(j)
	default:
		t = sluice.Thing{State: sluice.ThingMissing, Tag: r.wish.tag}
		if len(r.missing) >= maxJobs {
			clear(r.missing)
		}
		r.missing[j.devEUI] = time.Now()
		j.missing = true
	}
	j.at = nil
	r.heal(j)
	r.d.spec.Things.Put(j.devEUI, t)
	delete(r.jobs, j.devEUI)
	delete(r.names, j.name)
	r.release(j)
}

// release lets go who waits for a job.
func (r *registry) release(j *job) {
	if !j.isOver {
		j.isOver = true
		close(j.over)
	}
}

// close ends all jobs and waits for the callers.
func (r *registry) close() {
	r.mu.Lock()
	r.closed = true
	for _, j := range r.jobs {
		if j.timer != nil {
			j.timer.Stop()
		}
	}
	for _, s := range r.stages() {
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	r.mu.Unlock()
	r.cancel()
	r.wait.Wait()
	for _, g := range []*gatherer{r.created, r.absent, r.deleted} {
		g.close()
	}
	r.api.close()
	r.leave()
}
