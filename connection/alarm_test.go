package connection

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

// told are the alarms so far: when in a zone, and what.
func (b *bench) told(zone *time.Location) []string {
	var out []string
	for _, e := range b.seen(sluice.EventAlarm) {
		out = append(out, e.Time.In(zone).Format("01-02 15:04 ")+e.Label)
	}
	return out
}

// alarmed is the connection with alarms.
func alarmed(revision uint64, alarms string) sluice.Connection {
	c := connection(revision, "")
	c.Alarms = json.RawMessage(alarms)
	return c
}

func TestLowRate(t *testing.T) {
	run(t, func(t *testing.T, b *bench) { // from Saturday, 1 January 2000, 00:00 UTC
		b.apply(alarmed(1, `[{"startTime":"08:00","endTime":"18:00","timezone":"UTC","uplinkRateMinPerHour":10,"message":"Look at the meters.",
			"recurrence":[{"frequency":"weekly","byDays":["Saturday","monday"]}]}]`))
		n := 0
		send := func(until string, every time.Duration) {
			end, err := time.Parse("2006-01-02 15:04", "2000-01-"+until)
			if err != nil {
				t.Fatal(err)
			}
			for time.Now().Before(end) {
				if every > 0 {
					b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(1)))
					n++
					b.pass(every)
				} else {
					b.pass(time.Minute)
				}
			}
		}
		send("01 06:00", 0)              // outside of the window
		send("01 12:00", 5*time.Minute)  // enough
		send("01 15:30", 20*time.Minute) // too few
		send("01 17:00", 4*time.Minute)  // enough again
		send("03 07:30", 0)              // low at the end of the window, then Sunday
		send("03 20:00", 30*time.Minute) // too few all of Monday
		want := []string{
			"01-01 12:10 Low rate", "01-01 16:01 Low rate over", "01-01 17:22 Low rate", "01-01 18:00 Low rate over",
			"01-03 09:00 Low rate", "01-03 18:00 Low rate over",
		}
		got := b.told(time.UTC)
		if len(got) != len(want) {
			t.Fatalf("alarms %q", got)
		}
		for i, w := range want {
			g, _ := time.Parse("01-02 15:04", got[i][:11])
			at, _ := time.Parse("01-02 15:04", w[:11])
			if d := g.Sub(at); d < -15*time.Minute || d > 15*time.Minute || got[i][12:] != w[12:] {
				t.Errorf("%q, want %q", got[i], w)
			}
		}
		e := b.seen(sluice.EventAlarm)[4]
		if e.Level != sluice.LevelWarning || e.Connection != "8" ||
			e.Detail != "Look at the meters. 2 uplinks were delivered within the last hour, the least is 10." {
			t.Errorf("event %+v", e)
		}
	})
}

// No alarm for what was not seen: a start or an activation inside the window.
func TestLowRateNeedsAWholeHour(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		const all = `[{"startTime":"00:00","endTime":"24:00","uplinkRateMinPerHour":1}]`
		b.apply(alarmed(1, all))
		b.pass(59 * time.Minute)
		c := alarmed(2, all)
		c.Active = false
		b.apply(c)
		b.pass(5 * time.Hour)
		b.apply(alarmed(3, all))
		b.pass(58 * time.Minute)
		if got := b.told(time.UTC); len(got) != 0 {
			t.Errorf("alarms %q", got)
		}
		b.apply(alarmed(4, all)) // the same: it goes on counting
		b.pass(3 * time.Minute)
		if got := b.told(time.UTC); len(got) != 1 {
			t.Errorf("alarms %q", got)
		}
	})
}

func TestLowRateInAShortWindow(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(alarmed(1, `[{"startTime":"01:00","endTime":"01:30","uplinkRateMinPerHour":6}]`))
		b.pass(time.Hour + 5*time.Minute)
		b.journal.add(uplink("m1", eui(1)), uplink("m2", eui(1)))
		b.pass(5 * time.Hour)
		if got := b.told(time.UTC); len(got) != 1 || got[0][:10] != "01-01 01:3" {
			t.Errorf("alarms %q", got)
		}
		b.pass(20 * time.Hour) // to the next day, 02:05
		if got := b.told(time.UTC); len(got) != 2 {
			t.Errorf("alarms %q", got)
		}
	})
}

// The windows of an alarm when summer time begins and ends in Paris: 31 March
// and 27 October 2024, at 01:00 UTC.
func TestAlarmWindows(t *testing.T) {
	for _, c := range []struct {
		name, start, end, days string
		at                     string // a moment inside
		from, to               string // in UTC
	}{
		{"winter", "08:00", "10:30", "", "2024-03-30 08:00", "2024-03-30 07:00", "2024-03-30 09:30"},
		{"summer", "08:00", "10:30", "", "2024-03-31 08:00", "2024-03-31 06:00", "2024-03-31 08:30"},
		{"over the skip", "01:00", "05:00", "", "2024-03-31 01:30", "2024-03-31 00:00", "2024-03-31 03:00"},
		{"begins in the skip", "02:30", "04:00", "", "2024-03-31 01:30", "2024-03-31 01:00", "2024-03-31 02:00"},
		{"ends in the skip", "01:00", "02:30", "", "2024-03-31 00:30", "2024-03-31 00:00", "2024-03-31 01:00"},
		{"over the hour that comes twice", "01:00", "05:00", "", "2024-10-27 01:30", "2024-10-26 23:00", "2024-10-27 04:00"},
		{"begins in it", "02:30", "04:00", "", "2024-10-27 01:10", "2024-10-27 00:30", "2024-10-27 03:00"},
		{"ends in it", "01:00", "02:30", "", "2024-10-27 01:10", "2024-10-26 23:00", "2024-10-27 01:30"},
		{"within it", "02:10", "02:20", "", "2024-10-27 01:00", "2024-10-27 00:10", "2024-10-27 01:20"},
		{"over midnight", "22:00", "06:00", `"saturday"`, "2024-05-05 03:00", "2024-05-04 20:00", "2024-05-05 04:00"},
		{"over midnight and the skip", "22:00", "06:00", `"saturday"`, "2024-03-31 02:00", "2024-03-30 21:00", "2024-03-31 04:00"},
		{"over midnight and the second hour", "22:00", "06:00", `"saturday"`, "2024-10-27 02:00", "2024-10-26 20:00", "2024-10-27 05:00"},
		{"a whole day of 23 hours", "00:00", "24:00", `"sunday"`, "2024-03-31 12:00", "2024-03-30 23:00", "2024-03-31 22:00"},
		{"a whole day of 25 hours", "00:00", "00:00", `"sunday"`, "2024-10-27 12:00", "2024-10-26 22:00", "2024-10-27 23:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			recurrence := ""
			if c.days != "" {
				recurrence = `,"recurrence":[{"frequency":"weekly","byDays":[` + c.days + `]}]`
			}
			rules, problems := readAlarms(json.RawMessage(fmt.Sprintf(
				`[{"startTime":%q,"endTime":%q,"timezone":"Europe/Paris","uplinkRateMinPerHour":1%s}]`, c.start, c.end, recurrence)))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			parse := func(s string) time.Time {
				at, err := time.Parse("2006-01-02 15:04", s)
				if err != nil {
					t.Fatal(err)
				}
				return at
			}
			r, from, to := rules[0], parse(c.from), parse(c.to)
			w, inside := r.window(parse(c.at))
			if !inside || !w.start.Equal(from) || !w.end.Equal(to) {
				t.Fatalf("window %v, inside: %v", w, inside)
			}
			// The same window all the way, and not a minute longer.
			for at := from.Add(-time.Minute); !at.After(to); at = at.Add(time.Minute) {
				got, inside := r.window(at)
				if want := !at.Before(from) && at.Before(to); inside && got == w != want {
					t.Fatalf("at %v: %v %v", at, got, inside)
				} else if want && !inside {
					t.Fatalf("at %v it is outside", at)
				}
			}
		})
	}
	rules, _ := readAlarms(json.RawMessage(`[{"startTime":"22:00","endTime":"06:00","uplinkRateMinPerHour":1,
		"recurrence":[{"frequency":"weekly","byDays":["friday"]}]}]`))
	if _, inside := rules[0].window(time.Date(2024, 5, 5, 3, 0, 0, 0, time.UTC)); inside {
		t.Error("the night from Saturday to Sunday is not Friday's")
	}
}

func TestCheckAlarms(t *testing.T) {
	for _, good := range []string{
		``, `null`, `[]`, `[{"startTime":"08:00","endTime":"18:00:00","timezone":"Asia/Kolkata","uplinkRateMinPerHour":0.5,
		"recurrence":[{"frequency":"weekly","byDays":["monday","SUNDAY"]}],"message":"m","id":7}]`,
		`[{"silence":{"factor":3}},{"startTime":"08:00","endTime":"18:00","uplinkRateMinPerHour":5}]`,
	} {
		if p := CheckAlarms(json.RawMessage(good)); len(p) != 0 {
			t.Errorf("%s: %v", good, p)
		}
	}
	bad := `[{"startTime":"8","endTime":"25:00","timezone":"Mars/Base","uplinkRateMinPerHour":"10","message":5,
		"recurrence":[{"frequency":"daily","byDays":["monday","noday"]},{"frequency":"weekly"}]},
		7,{"silence":{"factor":1}},{"silence":{"factor":2}},{"silence":{"factor":2}},
		{"startTime":"08:00","endTime":"18:00","timezone":"Local","uplinkRateMinPerHour":0}]`
	var paths []string
	for _, p := range CheckAlarms(json.RawMessage(bad)) {
		paths = append(paths, strings.TrimPrefix(p.Path, "alarms"))
	}
	want := []string{
		"[0].message", "[0].startTime", "[0].endTime", "[0].uplinkRateMinPerHour", "[0].timezone",
		"[0].recurrence[0].frequency", "[0].recurrence[0].byDays[1]", "[0].recurrence[1].byDays",
		"[1]", "[2].silence.factor", "[4].silence", "[5].uplinkRateMinPerHour", "[5].timezone",
	}
	if d := cmp.Diff(want, paths); d != "" {
		t.Error(d)
	}
	if p := CheckAlarms(json.RawMessage(`{"a":1}`)); len(p) != 1 || p[0].Path != "alarms" {
		t.Errorf("no list: %v", p)
	}
	if p := CheckAlarms(json.RawMessage("[" + strings.Repeat(`{"silence":{"factor":0}},`, 60) + `1]`)); len(p) != alarmsMax+1 {
		t.Errorf("%d problems of too many alarms", len(p))
	}
}

func TestSilence(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(unreachable) // a connection that is down is no silence
		b.apply(alarmed(1, `[{"silence":{"factor":3},"message":"Go and see."}]`))
		minutes := func(n int, silent bool) {
			for i := range n {
				b.Received(uplink("m", eui(1))) // every minute, all the time
				if i%10 == 0 && !silent {
					for k := range 30 {
						b.Received(uplink("m", eui(100+k))) // every ten minutes
					}
				}
				b.pass(time.Minute)
			}
		}
		minutes(60, false)
		if got := b.told(time.UTC); len(got) != 0 {
			t.Fatalf("alarms %q", got)
		}
		minutes(15, true)
		if got := b.told(time.UTC); len(got) != 0 {
			t.Fatalf("too early: %q", got)
		}
		minutes(120, true)
		events := b.seen(sluice.EventAlarm)
		if len(events) != silenceTold+1 || events[0].Label != "Device silent" || events[0].DevEUI == "" ||
			!strings.HasPrefix(events[0].Detail, "Go and see. Device 00000000000000") ||
			!strings.HasSuffix(events[0].Detail, "; it usually does every 10m0s.") ||
			events[silenceTold].Detail != "Go and see. 20 more devices have fallen silent." {
			t.Fatalf("events %+v", events)
		}
		minutes(25, false)
		events = b.seen(sluice.EventAlarm)[silenceTold+1:]
		if len(events) != silenceTold+1 || events[0].Label != "Device reports again" {
			t.Fatalf("events %+v", events)
		}
		minutes(120, true)
		if n := len(b.seen(sluice.EventAlarm)); n != 3*(silenceTold+1) {
			t.Errorf("%d events after a second silence", n)
		}
	})
}

func TestSilenceIsBounded(t *testing.T) {
	s := newSilence(alarmRule{factor: 3})
	now := time.Now()
	for n := range silenceDevices + 1000 {
		s.heard(eui(n), now)
	}
	if len(s.devices) != silenceDevices {
		t.Errorf("%d devices", len(s.devices))
	}
}
