package awsiot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"sluice"
)

// maxJobs is how many devices may wait for their things at once. The uplinks
// of those above it are sent without waiting; their things are made later.
const maxJobs = 100_000

// refusedPause is how long nothing is asked after AWS refused all there is.
const refusedPause = 30 * time.Second

// registry makes sure that devices are things: it asks once for each device,
// and makes the thing where it is missing and that is wanted.
//
// A device that is not known to be a thing has a job. A few callers take the
// jobs in turn. A job that fails is tried again after a pause, for as long as
// the registry is open; its device waits for it only so long.
type registry struct {
	d         *dialer
	api       *things
	principal string // the certificate to attach, "" for none
	tag       string // of things that are as this configuration wants them
	timeout   time.Duration

	ctx    context.Context // of the callers; ends with close
	cancel func()
	wait   sync.WaitGroup // for the callers

	mu      sync.Mutex
	jobs    map[string]*job      // by DevEUI
	ready   []*job               // to be taken by a caller
	calling int                  // callers at work
	closed  bool                 //
	missing map[string]time.Time // things that are not there, and when that was seen
	refused *refusal             // why AWS refused all there is
	until   time.Time            // and until when nothing is asked therefore
}

// job is the registration of one device.
type job struct {
	devEUI  string
	since   time.Time
	tries   int
	over    chan struct{} // closed once there is nothing to wait for
	isOver  bool
	missing bool // set before over is closed: the thing is not there, nor to be made
	timer   *time.Timer
}

func newRegistry(d *dialer) (*registry, error) {
	timeout, err := time.ParseDuration(d.cfg.ProvisioningTimeout)
	if err != nil {
		return nil, fmt.Errorf("provisioningTimeout: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &registry{
		d: d, api: newThings(&d.cfg, d.web, d.identity, d.who), timeout: timeout,
		ctx: ctx, cancel: cancel,
		jobs: map[string]*job{}, missing: map[string]time.Time{},
	}
	if _, ok := parseCertificateARN(d.cfg.CertificateID); ok {
		r.principal = d.cfg.CertificateID
	}
	h := sha256.New()
	for _, s := range []string{
		d.cfg.controlAddress(), d.cfg.Region, d.cfg.AccountPrefix, d.cfg.DeviceType, r.principal,
		fmt.Sprint(d.cfg.CreateDevices),
	} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	r.tag = hex.EncodeToString(h.Sum(nil)[:8])
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
	if t, ok := r.d.spec.Things.Get(m.DevEUI); ok && t.State == sluice.ThingRegistered && t.Tag == r.tag {
		return nil
	}
	devEUI := strings.ToUpper(m.DevEUI)
	if r.isMissing(devEUI) {
		return r.missingFailure(devEUI)
	}
	j := r.job(devEUI)
	if j == nil {
		return nil
	}
	t := time.NewTimer(r.timeout - time.Since(j.since))
	defer t.Stop()
	select {
	case <-j.over:
		if j.missing {
			return r.missingFailure(devEUI)
		}
	case <-t.C:
	case <-r.ctx.Done():
		return notConnected(sluice.ReasonDisconnected, nil, "The connection is closing.", "")
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// missingFailure skips a message, and tells so once in a while for a device.
func (r *registry) missingFailure(devEUI string) error {
	f := &sluice.Failure{
		Verdict: sluice.Permanent, Reason: sluice.ReasonThingMissing,
		Message: fmt.Sprintf("There is no thing %s in AWS IoT, and createDevices is off.", devEUI),
		Hint:    "Create the thing, or set createDevices.",
	}
	r.d.tell(sluice.LevelWarning, sluice.EventThingMissing, "Thing missing", devEUI, devEUI, f)
	return f
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
func (r *registry) job(devEUI string) *job {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.jobs[devEUI]
	if j == nil && len(r.jobs) < maxJobs && !r.closed {
		j = &job{devEUI: devEUI, since: time.Now(), over: make(chan struct{})}
		r.jobs[devEUI] = j
		r.d.spec.Things.Put(devEUI, sluice.Thing{State: sluice.ThingPending})
		r.enqueue(j)
	}
	return j
}

// enqueue hands a job to the callers. r.mu is held.
func (r *registry) enqueue(j *job) {
	if r.closed {
		return
	}
	r.ready = append(r.ready, j)
	if r.calling < callers {
		r.calling++
		r.wait.Go(r.call)
	}
}

// call does jobs until there are none.
func (r *registry) call() {
	for {
		r.mu.Lock()
		if len(r.ready) == 0 || r.closed {
			r.calling--
			r.mu.Unlock()
			return
		}
		j := r.ready[0]
		r.ready[0] = nil
		r.ready = r.ready[1:]
		refused := r.refused
		if !time.Now().Before(r.until) {
			refused = nil
		}
		r.mu.Unlock()

		j.tries++
		if refused != nil {
			r.failed(j, refused, false)
			continue
		}
		missing, detail, err := r.ensure(j.devEUI)
		switch {
		case r.ctx.Err() != nil:
		case err != nil:
			r.failed(j, err, true)
		case missing:
			r.finish(j, sluice.Thing{State: sluice.ThingMissing, Tag: r.tag})
		default:
			r.finish(j, sluice.Thing{State: sluice.ThingRegistered, Detail: detail, Tag: r.tag})
		}
	}
}

// ensure asks for a thing, and makes it where that is wanted. detail is what
// is odd about it.
func (r *registry) ensure(devEUI string) (missing bool, detail string, err error) {
	thingType, found, err := r.api.describe(r.ctx, devEUI)
	if err != nil {
		return false, "", err
	}
	if !r.d.cfg.CreateDevices {
		return !found, "", nil
	}
	if !found {
		existed, err := r.api.create(r.ctx, devEUI, r.d.cfg.DeviceType)
		if err != nil {
			return false, "", err
		}
		if existed { // somebody else made it just now, and otherwise
			if thingType, _, err = r.api.describe(r.ctx, devEUI); err != nil {
				return false, "", err
			}
		} else {
			thingType = r.d.cfg.DeviceType
			r.created(devEUI)
		}
	}
	if want := r.d.cfg.DeviceType; want != "" && thingType != want {
		detail = fmt.Sprintf("It is of the thing type %q, not %q.", thingType, want)
		r.d.tell(sluice.LevelWarning, sluice.EventThingFailed, "Thing of another type", "type "+thingType, devEUI, &sluice.Failure{
			Reason:  sluice.ReasonConfiguration,
			Message: fmt.Sprintf("Thing %s exists with the thing type %q, not %q. It is used as it is.", devEUI, thingType, want),
		})
	}
	if r.principal != "" {
		err = r.api.attach(r.ctx, devEUI, r.principal)
	}
	return false, detail, err
}

func (r *registry) created(devEUI string) {
	text := fmt.Sprintf("Thing %s was created.", devEUI)
	if t := r.d.cfg.DeviceType; t != "" {
		text = fmt.Sprintf("Thing %s of type %s was created.", devEUI, t)
	}
	r.d.record(sluice.LevelInfo, sluice.EventThingCreated, "Thing created", devEUI, &sluice.Failure{Message: text})
}

// finish ends a job.
func (r *registry) finish(j *job, t sluice.Thing) {
	r.d.spec.Things.Put(j.devEUI, t)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, j.devEUI)
	if t.State == sluice.ThingMissing {
		if len(r.missing) >= maxJobs {
			clear(r.missing)
		}
		r.missing[j.devEUI] = time.Now()
		j.missing = true
	}
	r.release(j)
}

// release lets go who waits for a job. r.mu is held.
func (r *registry) release(j *job) {
	if !j.isOver {
		j.isOver = true
		close(j.over)
	}
}

// failed tells why a job failed, and has it tried again later. Where trying
// again is of no use until somebody changes something, its device need not
// wait. asked is false where AWS was not asked, because it just refused all.
func (r *registry) failed(j *job, err error, asked bool) {
	f, ok := errors.AsType[*refusal](err)
	if !ok {
		f = &refusal{kind: "other", Failure: sluice.Failure{Reason: sluice.ReasonInternal, Message: "A thing could not be registered.", Err: err}}
	}
	r.d.spec.Things.Put(j.devEUI, sluice.Thing{State: sluice.ThingFailed, Detail: f.Message})
	if f.final || j.tries > 1 {
		told := f.Failure
		told.Message += " Uplinks are sent all the same, and things are registered as soon as it works."
		r.d.tell(sluice.LevelError, sluice.EventThingFailed, "Things not registered", f.kind, j.devEUI, &told)
	}
	pause := r.d.o.RetryThing << min(j.tries-1, 6)
	pause += time.Duration(r.d.o.Rand() * float64(pause) / 2)

	r.mu.Lock()
	defer r.mu.Unlock()
	if f.all && asked {
		r.refused, r.until = f, time.Now().Add(min(refusedPause, 6*r.d.o.RetryThing))
	}
	if f.final {
		r.release(j)
	}
	if r.closed {
		return
	}
	j.timer = time.AfterFunc(pause, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.enqueue(j)
	})
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
	r.mu.Unlock()
	r.cancel()
	r.wait.Wait()
	r.api.close()
}
