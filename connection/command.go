package connection

import (
	"context"
	"errors"
	"strings"
	"time"

	"sluice"
	"sluice/internal/lifetime"
	"sluice/internal/report"
)

// takeAgainMax is the longest pause between two tries to make a command
// durable.
const takeAgainMax = 10 * time.Second

// take takes what a session received. nil lets the session acknowledge it: it
// is durable, or it is for good no downlink of ours. While the command cannot
// be made durable, take tries again, and holds up those behind it, until the
// session ends: acknowledging it would lose it, and giving up would hardly
// bring it back before the next session.
func (r *runner) take(ctx, living context.Context, source sluice.Session, c sluice.Command) error {
	fields, document, ok := downlinkFields(c.Document)
	if !ok {
		r.ignored.Add(1)
		r.log.Debug("not a downlink, ignored", "source", c.Source, "bytes", len(c.Document))
		return nil
	}
	d, problems := readDownlink(document, fields, c.DevEUI, r.settings.Load().common)
	d.source = c.Source
	hasID := d.correlated || c.ID != ""
	d.fingerprint = fingerprint(c, hasID)
	first := false
	err := r.handover.once(ctx, source, c, hasID, func() error {
		first = true
		return r.persist(ctx, living, func() error {
			if len(problems) > 0 {
				return r.malformed(ctx, d, c, document, problems)
			}
			_, err := r.submit(ctx, d, true)
			return err
		})
	})
	if err == nil && !first {
		r.redelivered(d, c)
	}
	return err
}

// redelivered tells of a command that was taken before.
func (r *runner) redelivered(d *downlink, c sluice.Command) {
	r.o.Counted(r.id, FateRedelivered)
	e := r.event(sluice.LevelInfo, sluice.EventDownlinkRedelivered, "Downlink redelivered",
		"A command for device "+d.devEUI+" came again on "+c.Source+" around a reconnect, and is sent once.", nil)
	e.Hint = "Where both were meant, give each a CorrelationID of its own, or set downlinkRedelivery to 0s."
	e.DevEUI = d.devEUI
	r.tally.add(e)
}

// persist calls f again and again until it has made a command durable, or the
// session ends.
func (r *runner) persist(ctx, living context.Context, f func() error) error {
	wait := 250 * time.Millisecond
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		r.log.Warn("a command cannot be journalled, trying again", "after", wait, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-living.Done():
			timer.Stop()
			return err
		}
		wait = min(2*wait, takeAgainMax)
	}
}

// submit makes a command durable. A command that is refused for good is told
// as an event; with report, also to the application, in a report that is
// durable when submit returns nil. Without it, the Failure is returned.
func (r *runner) submit(ctx context.Context, d *downlink, report bool) (*sluice.Message, error) {
	sealed, err := d.sealed(r.o.Sealer)
	if err != nil {
		return nil, err
	}
	now := r.o.Clock()
	m := &sluice.Message{
		ID: newID(now), Kind: sluice.KindDownlink, DevEUI: d.devEUI, Connection: r.id, Received: now,
		Credentials: sealed, Document: d.document, Fingerprint: d.fingerprint, Way: new(sluice.Way),
	}
	m.Way.From(d.source)
	if until := d.until(now); until.IsZero() || now.Before(until) {
		if !until.IsZero() {
			m.Validity = until.Sub(now)
		}
		err = lifetime.Guard(func() error { return r.o.Commands.Handle(ctx, m) })
	} else {
		err = tooLate(now.Sub(until))
	}
	f, refused := errors.AsType[*sluice.Failure](err)
	if !refused || f.Verdict != sluice.Permanent && f.Verdict != sluice.Expired {
		if err == nil {
			r.o.Counted(r.id, FateReceived)
		}
		return m, err
	}
	if report && Tells(r.settings.Load().common, sluice.KindDownlinkRejected) {
		if err := r.o.Reports.Handle(ctx, Rejected(m, f, r.o.Clock())); err != nil {
			return m, err
		}
	}
	r.refusedAtOnce(f)
	e := r.event(sluice.LevelWarning, sluice.EventDownlinkRejected, "Downlink rejected",
		"The downlink for device "+d.devEUI+" was refused: "+f.Message, f)
	if f.Verdict == sluice.Expired {
		e.Type, e.Label = sluice.EventDownlinkExpired, "Downlink expired"
		e.Detail = "The downlink for device " + d.devEUI + " came too late: " + f.Message
	}
	e.DevEUI, e.Message = d.devEUI, m.ID
	r.tally.add(e)
	if report {
		return m, nil
	}
	return m, f
}

// until is when the command's ValidityTime passes; zero: never.
func (d *downlink) until(received time.Time) time.Time {
	t, _ := report.ValidUntil(d.validity, received) // it was checked
	return t
}

// tooLate is the failure of a command whose time had passed when it came.
func tooLate(by time.Duration) *sluice.Failure {
	return &sluice.Failure{
		Verdict: sluice.Expired, Reason: sluice.ReasonExpired,
		Message: "Its ValidityTime had passed " + by.Round(time.Second).String() + " before.",
		Hint:    "Compare the clocks.",
	}
}

// refusedAtOnce counts a command that never reached the journal.
func (r *runner) refusedAtOnce(f *sluice.Failure) {
	r.o.Counted(r.id, FateReceived)
	if f.Verdict == sluice.Expired {
		r.o.Counted(r.id, FateExpired)
	} else {
		r.o.Counted(r.id, FateRejected)
	}
}

// malformed tells of a document that is meant as a downlink and cannot be one:
// the operator, and the application too where a device is known.
func (r *runner) malformed(ctx context.Context, d *downlink, c sluice.Command, document []byte, problems []sluice.Problem) error {
	text := make([]string, 0, len(problems))
	for _, p := range problems {
		text = append(text, p.Path+": "+p.Message)
	}
	cause := strings.Join(text, " ")
	devEUI := d.devEUI
	if devEUI == "" {
		devEUI, _ = report.DevEUI(c.DevEUI) // as the topic says
	}
	f := &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonMalformed, Message: cause}
	id := newID(r.o.Clock())
	if devEUI != "" && Tells(r.settings.Load().common, sluice.KindDownlinkRejected) {
		m := &sluice.Message{ID: id, Kind: sluice.KindDownlink, DevEUI: devEUI, Connection: r.id, Document: document}
		if err := r.o.Reports.Handle(ctx, Rejected(m, f, r.o.Clock())); err != nil {
			return err
		}
	}
	r.refusedAtOnce(f)
	e := r.event(sluice.LevelWarning, sluice.EventDownlinkIgnored, "Downlink ignored",
		"What came on "+c.Source+" cannot be sent to a device: "+cause, nil)
	e.Reason, e.DevEUI, e.Message = sluice.ReasonMalformed, devEUI, id
	r.tally.addCause(e, cause)
	return nil
}

// request is a command that came over HTTP.
func (r *runner) request(ctx context.Context, c sluice.Command) (string, error) {
	set := r.settings.Load()
	switch {
	case set == nil:
		return "", sluice.Errorf(sluice.CodeUnavailable, "The connection is only just starting.")
	case r.state() == sluice.StateDeactivated:
		return "", &sluice.Error{
			Code: sluice.CodeConflict, Message: "The connection is not active.", Hint: "Activate it with PUT /connections/" + r.id + ".",
		}
	case !set.common.DownlinkEnabled:
		return "", &sluice.Error{
			Code: sluice.CodeConflict, Message: "The connection takes no downlinks.", Hint: "Set downlinkEnabled in its configuration.",
		}
	}
	fields, document, ok := downlinkFields(c.Document)
	if !ok {
		return "", &sluice.Error{
			Code: sluice.CodeInvalid, Message: "The body is no DevEUI_downlink document.",
			Hint: `Send {"DevEUI_downlink":{"DevEUI":"...","FPort":1,"payload_hex":"..."}}.`,
		}
	}
	d, problems := readDownlink(document, fields, c.DevEUI, set.common)
	if len(problems) > 0 {
		return "", &sluice.Error{Code: sluice.CodeInvalid, Message: "The downlink cannot be sent as it is.", Fields: problems}
	}
	d.source = c.Source
	m, err := r.submit(ctx, d, false)
	if err == nil {
		return m.ID, nil
	}
	return "", requestError(err)
}

// requestError is what a client is told of a command that was not taken.
func requestError(err error) error {
	if e, ok := errors.AsType[*sluice.Error](err); ok {
		return e
	}
	f, ok := errors.AsType[*sluice.Failure](err)
	switch {
	case !ok:
		return &sluice.Error{Code: sluice.CodeUnavailable, Message: "The downlink cannot be taken now.", Hint: "Try again later.", Err: err}
	case f.Reason == sluice.ReasonUnknownDevice:
		return &sluice.Error{Code: sluice.CodeNotFound, Message: f.Message, Hint: f.Hint, Err: f.Err}
	case f.Verdict == sluice.Permanent || f.Verdict == sluice.Expired:
		return &sluice.Error{Code: sluice.CodeConflict, Message: f.Message, Hint: f.Hint, Err: f.Err}
	default:
		return &sluice.Error{Code: sluice.CodeUnavailable, Message: f.Message, Hint: first(f.Hint, "Try again later."), Err: f.Err}
	}
}

// message is the sentence of an error that was made for users.
func message(err error) string {
	if e, ok := errors.AsType[*sluice.Error](err); ok {
		return e.Message
	}
	return err.Error()
}
