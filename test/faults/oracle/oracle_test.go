package oracle_test

import (
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/test/faults/oracle"
)

var begin = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }

func report(n uint32) oracle.Report { return oracle.Report{DevEUI: "A", FCntUp: n} }

// story is a run in which all is well: three reports of a device and a poison
// one, a copy after a crash, one report that was never answered and arrived, a
// command.
func story() (*oracle.Oracle, oracle.Ending) {
	o := oracle.New()
	for n := range uint32(3) {
		o.Answered(report(n+1), at(int(n)), at(int(n)+1), true)
	}
	o.Arrived(report(1), "id1", at(2))
	o.Arrived(report(2), "id2", at(3))
	o.Arrived(report(2), "id2", at(6))
	o.Arrived(report(3), "id3", at(7))
	o.Poison(report(4))
	o.Answered(report(4), at(4), at(5), true)
	o.Answered(report(5), at(5), at(6), false)
	o.Arrived(report(5), "id5", at(7))
	o.Fault(oracle.Fault{Name: "kill -9", From: at(4), To: at(5), Crash: true, Sessions: 1})
	o.Sent("c1", at(1))
	o.Taken("c1", at(2))
	o.Told("fate1")
	return o, oracle.Ending{Counters: sluice.Counters{Received: 6, Delivered: 5, Failed: 1}}
}

func TestAllIsWell(t *testing.T) {
	o, e := story()
	if v := o.Judge(e); len(v) != 0 || o.Missing() != 0 || o.MissingCommands() != 0 || o.Accepted() != 4 {
		t.Errorf("%q", v)
	}
	if rs := o.AcceptedBefore(at(3)); len(rs) != 2 {
		t.Errorf("accepted before: %v", rs)
	}
}

type none struct{}

func (none) Dead(oracle.Report) string { return "" }

// Each promise that is broken is said, with the report, when and during what.
func TestWhatIsWrongIsSaid(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(o *oracle.Oracle, e *oracle.Ending)
		want  string
	}{
		"lost": {func(o *oracle.Oracle, _ *oracle.Ending) {
			o.Answered(report(9), at(4), at(5), true)
		}, "LOST: A/9, accepted at 12:00:05.000 (during kill -9, 12:00:04.000 to 12:00:05.000), did not arrive"},
		"out of order": {func(o *oracle.Oracle, _ *oracle.Ending) {
			o.Answered(report(8), at(5), at(6), true)
			o.Answered(report(7), at(5), at(6), true)
			o.Arrived(report(8), "id8", at(8))
			o.Arrived(report(7), "id7", at(9))
		}, "ORDER: A/7 arrived first at 12:00:09.000, after A/8"},
		"another id": {func(o *oracle.Oracle, _ *oracle.Ending) {
			o.Arrived(report(3), "other", at(8))
		}, `A/3 arrived with id "id3" at 12:00:07.000, and with "other"`},
		"one id for two": {func(o *oracle.Oracle, _ *oracle.Ending) {
			o.Arrived(report(6), "id1", at(8))
		}, `A/1 and A/6 carry the same id "id1"`},
		"too many copies": {func(o *oracle.Oracle, _ *oracle.Ending) {
			for range 20 {
				o.Arrived(report(3), "id3", at(8))
			}
		}, "DUPLICATES: 21 copies arrived, at most 3 may"},
		"poison arrived": {func(o *oracle.Oracle, _ *oracle.Ending) {
			o.Arrived(report(4), "id4", at(8))
		}, "A/4 can never be delivered, and arrived"},
		"poison is nowhere": {func(_ *oracle.Oracle, e *oracle.Ending) { e.Dead = none{} }, "A/4 can never be delivered, and is not among"},
		"the law in a look": {func(o *oracle.Oracle, _ *oracle.Ending) {
			o.Looked(sluice.Counters{Received: 1}, at(4))
		}, "at 12:00:04.000 the law did not hold"},
		"the law": {func(_ *oracle.Oracle, e *oracle.Ending) { e.Counters.Received++ }, "the law does not hold at the end"},
		"pending": {func(_ *oracle.Oracle, e *oracle.Ending) {
			e.Counters.Received, e.Counters.Pending = 7, 1
		}, "1 reports are pending"},
		"not received": {func(_ *oracle.Oracle, e *oracle.Ending) {
			e.Counters = sluice.Counters{Received: 3, Delivered: 3}
		}, "Sluice received 3, by its own count; 4 were accepted of 5 posted, and 1 fates told"},
		"delivered wrongly counted": {func(_ *oracle.Oracle, e *oracle.Ending) {
			e.Counters = sluice.Counters{Received: 6, Delivered: 4, Failed: 2}
		}, "Sluice delivered 4, by its own count; 5 arrived"},
		"expired": {func(_ *oracle.Oracle, e *oracle.Ending) {
			e.Counters = sluice.Counters{Received: 6, Delivered: 5, Expired: 1}
		}, "nothing could expire"},
		"a command":                 {func(o *oracle.Oracle, _ *oracle.Ending) { o.Sent("c2", at(3)) }, "LOST: command c2, taken by the cloud at 12:00:03.000"},
		"more than damage may cost": {func(_ *oracle.Oracle, e *oracle.Ending) { e.Lost, e.MayLose = 2, 1 }, "damage cost 2 reports, at most 1"},
	} {
		t.Run(name, func(t *testing.T) {
			o, e := story()
			test.spoil(o, &e)
			if v := strings.Join(o.Judge(e), "\n"); !strings.Contains(v, test.want) {
				t.Errorf("want %q in\n%s", test.want, v)
			}
		})
	}
}

// A session that the cloud forgot takes its commands with it, and no others.
func TestForgottenSessions(t *testing.T) {
	o, e := story()
	o.Sent("before", at(3))
	o.Fault(oracle.Fault{Name: "restart", From: at(4), To: at(5), LosesCommands: true})
	if v := o.Judge(e); len(v) != 0 {
		t.Errorf("%q", v)
	}
	o.Sent("after", at(6))
	if v := o.Judge(e); len(v) != 1 || o.MissingCommands() != 1 {
		t.Errorf("%q", v)
	}
}

// A command that got through tells that those behind it do.
func TestThrough(t *testing.T) {
	o := oracle.New()
	o.Sent("lost", at(2))
	if _, ok := o.Through(at(1)); ok {
		t.Error("none was taken")
	}
	for i, id := range []string{"early", "later", "latest"} {
		o.Sent(id, at(1+2*i))
		o.Taken(id, at(9))
	}
	if sent, ok := o.Through(at(1)); !ok || sent != at(3) {
		t.Errorf("%v, %v", sent, ok)
	}
}
