package connection

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice"
)

// title names the connection in sentences, as ThingPark does.
func (r *runner) title() string {
	if s := r.settings.Load(); s != nil {
		if s.name != "" {
			return fmt.Sprintf("connection %q (%s) with id %s", s.name, s.connectorID, r.id)
		}
		return "connection " + s.connectorID + " with id " + r.id
	}
	return "connection with id " + r.id
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// event makes an event of this connection; err gives it reason and hint.
func (r *runner) event(level sluice.Level, t sluice.EventType, label, detail string, err error) sluice.Event {
	e := sluice.Event{
		Time: r.o.Clock(), Level: level, Type: t, Label: label, Detail: detail, Connection: r.id,
	}
	if err != nil {
		e.Reason = sluice.ReasonOf(err)
		e.Hint = hint(err)
	}
	return e
}

// record tells an event at once.
func (r *runner) record(level sluice.Level, t sluice.EventType, label, detail string, err error) {
	r.o.Events.Record(r.event(level, t, label, detail, err))
}

// sentence is what a user may read of an error. Of an error that was not made
// for users it is nothing but that; the log has the rest.
func (r *runner) sentence(err error) string {
	if f, ok := errors.AsType[*sluice.Failure](err); ok && f.Message != "" {
		return f.Message
	}
	if e, ok := errors.AsType[*sluice.Error](err); ok && e.Message != "" {
		return e.Message
	}
	r.log.Error("unexpected error", "err", err)
	return "An unexpected error, see the log."
}

func hint(err error) string {
	if f, ok := errors.AsType[*sluice.Failure](err); ok {
		return f.Hint
	}
	if e, ok := errors.AsType[*sluice.Error](err); ok {
		return e.Hint
	}
	return ""
}

// settled is told by the journal of each entry that is over.
func (r *runner) settled(m *sluice.Message, verdict sluice.Verdict, err error) {
	if err == nil {
		if m.Kind == sluice.KindUplink {
			r.uplinked.Store(int64(time.Since(r.born)))
			r.alarms.Load().uplink()
		}
		return
	}
	now := r.o.Clock()
	var e sluice.Event
	switch verdict {
	case sluice.Filtered:
		return
	case sluice.Expired:
		e = r.event(sluice.LevelWarning, sluice.EventUplinkExpired, "Message expired", r.expiry(m, now), err)
		e.Reason = sluice.ReasonExpired
	default:
		what := "Uplink lost: "
		if sluice.Quarantines(err) {
			what = "Uplink quarantined: "
		}
		e = r.event(sluice.LevelError, sluice.EventUplinkFailed, "Connection uplink lost",
			what+r.sentence(err)+" Device "+m.DevEUI+".", err)
		if sluice.Quarantines(err) {
			e.Hint = r.retryHint(e.Hint, m.Number)
		}
	}
	e.DevEUI, e.Message, e.Network = m.DevEUI, m.ID, m.Network
	r.tally.add(e)
}

// retryHint says what can be done with a message in quarantine.
func (r *runner) retryHint(hint string, number uint64) string {
	if hint != "" {
		hint += " "
	}
	return hint + fmt.Sprintf("Once that is mended, POST /connections/%s/quarantine/%d/retry sends it again, and POST /connections/%s/quarantine/retry all that lie there.",
		r.id, number, r.id)
}

// expiry says which message expired, how old it was and what the limit is.
func (r *runner) expiry(m *sluice.Message, now time.Time) string {
	text := "The report of device " + m.DevEUI + " was " + now.Sub(m.Born()).Round(time.Second).String() + " old"
	var own time.Duration
	if s := r.settings.Load(); s != nil {
		own = s.validity
	}
	if limit := m.Limit(own); limit > 0 {
		return text + "; the limit is " + limit.String() + "."
	}
	return text + "."
}
