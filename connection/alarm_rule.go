package connection

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // for machines without zoneinfo

	"github.com/tidwall/gjson"

	"sluice"
)

const (
	// alarmsMax bounds the alarms of a connection.
	alarmsMax = 50
	// factorMin and factorMax bound how many usual intervals a silence may last.
	factorMin, factorMax = 1.5, 1000
)

// alarmRule is an alarm as configured: of a low rate, or of silence.
type alarmRule struct {
	start, end int // minutes of the day; end may lie on the day after
	zone       *time.Location
	days       []time.Weekday // nil: all
	rate       float64        // the least uplinks an hour
	message    string
	factor     float64 // of silence; 0: a low-rate alarm
}

// window is one occurrence of the time of an alarm.
type window struct{ start, end time.Time }

// CheckAlarms finds what is wrong with the alarms of a connection, all of it.
// Paths begin with "alarms". Nothing, null and an empty list have no problem.
//
// A low-rate alarm, in ThingPark's form: startTime and endTime ("08:00"; an end
// not after the start is on the next day), timezone (an IANA name, default
// UTC), recurrence ([{"frequency":"weekly","byDays":["monday", ...]}], default
// every day), uplinkRateMinPerHour and message. An alarm of silence, ours:
// {"silence":{"factor":N}, "message":...} tells of each device without an
// uplink for N times its usual interval, N from 1.5 to 1000.
// Source: ThingPark X IoT Flow documentation, "About connections".
func CheckAlarms(alarms json.RawMessage) []sluice.Problem {
	_, problems := readAlarms(alarms)
	return problems
}

// readAlarms reads those alarms that can be read, and says what is wrong.
func readAlarms(raw json.RawMessage) ([]alarmRule, []sluice.Problem) {
	list := gjson.ParseBytes(raw)
	if len(raw) == 0 || list.Type == gjson.Null {
		return nil, nil
	}
	if !gjson.ValidBytes(raw) || !list.IsArray() {
		return nil, []sluice.Problem{{Path: "alarms", Message: "It must be a list of alarms."}}
	}
	var rules []alarmRule
	var problems []sluice.Problem
	silences := 0
	for i, v := range list.Array() {
		r := alarmReader{path: fmt.Sprintf("alarms[%d]", i), fields: v}
		if i >= alarmsMax {
			r.problem("", "A connection has at most %d alarms.", alarmsMax)
			return rules, append(problems, r.problems...)
		}
		rule := r.read()
		if rule.factor > 0 {
			if silences++; silences > 1 {
				r.problem(".silence", "A connection has one alarm of silence.")
			}
		}
		if len(r.problems) == 0 {
			rules = append(rules, rule)
		}
		problems = append(problems, r.problems...)
	}
	return rules, problems
}

// alarmReader reads one alarm and collects what is wrong.
type alarmReader struct {
	path     string
	fields   gjson.Result
	problems []sluice.Problem
}

func (r *alarmReader) problem(name, format string, args ...any) {
	r.problems = append(r.problems, sluice.Problem{Path: r.path + name, Message: fmt.Sprintf(format, args...)})
}

func (r *alarmReader) read() alarmRule {
	var rule alarmRule
	if !r.fields.IsObject() {
		r.problem("", "It must be an object.")
		return rule
	}
	if v := r.fields.Get("message"); v.Exists() && v.Type != gjson.String && v.Type != gjson.Null {
		r.problem(".message", "It must be a text.")
	} else {
		rule.message = clipAt(v.Str, 500)
	}
	if v := r.fields.Get("silence"); v.Exists() {
		rule.factor = v.Get("factor").Num
		if v.Get("factor").Type != gjson.Number || rule.factor < factorMin || rule.factor > factorMax {
			r.problem(".silence.factor", "It must be a number from %g to %d: how many times its usual interval a device may be silent.",
				factorMin, factorMax)
			rule.factor = 0
		}
		if r.fields.Get("uplinkRateMinPerHour").Exists() {
			r.problem(".uplinkRateMinPerHour", "An alarm is of silence or of a low rate; write two.")
		}
		return rule
	}
	rule.start, rule.end = r.time("startTime"), r.time("endTime")
	if rule.end <= rule.start {
		rule.end += 24 * 60
	}
	v := r.fields.Get("uplinkRateMinPerHour")
	rule.rate = v.Num
	if v.Type != gjson.Number || v.Num <= 0 || v.Num > 1e9 {
		r.problem(".uplinkRateMinPerHour", "It must be a number above 0: the least uplinks an hour.")
	}
	rule.zone = r.zone()
	rule.days = r.days()
	return rule
}

// time reads a time of the day, in minutes.
func (r *alarmReader) time(name string) int {
	v := r.fields.Get(name)
	if v.Type == gjson.String {
		for _, layout := range []string{"15:04", "15:04:05"} {
			if t, err := time.Parse(layout, v.Str); err == nil {
				return t.Hour()*60 + t.Minute()
			}
		}
		if v.Str == "24:00" && name == "endTime" {
			return 24 * 60
		}
	}
	r.problem("."+name, "It must be a time of the day such as 08:00.")
	return 0
}

func (r *alarmReader) zone() *time.Location {
	v := r.fields.Get("timezone")
	if !v.Exists() || v.Type == gjson.Null {
		return time.UTC
	}
	zone, err := time.LoadLocation(v.Str)
	if v.Type != gjson.String || err != nil || v.Str == "Local" || v.Str == "" {
		r.problem(".timezone", "%q is no time zone; write for example Europe/Paris or UTC.", clip(v.String()))
		return time.UTC
	}
	return zone
}

func (r *alarmReader) days() []time.Weekday {
	list := r.fields.Get("recurrence")
	if !list.Exists() || list.Type == gjson.Null {
		return nil
	}
	if !list.IsArray() {
		r.problem(".recurrence", "It must be a list.")
		return nil
	}
	var days []time.Weekday
	for i, v := range list.Array() {
		path := fmt.Sprintf(".recurrence[%d]", i)
		if f := v.Get("frequency"); !strings.EqualFold(f.String(), "weekly") {
			r.problem(path+".frequency", "It must be weekly.")
		}
		names := v.Get("byDays")
		if !names.IsArray() || len(names.Array()) == 0 {
			r.problem(path+".byDays", "It must be a list of days such as monday.")
		}
		for k, name := range names.Array() {
			day := slices.IndexFunc([]int{0, 1, 2, 3, 4, 5, 6}, func(d int) bool {
				return strings.EqualFold(time.Weekday(d).String(), name.String())
			})
			if day < 0 {
				r.problem(fmt.Sprintf("%s.byDays[%d]", path, k), "%q is no day; there are monday to sunday.", clip(name.String()))
				continue
			}
			days = append(days, time.Weekday(day))
		}
	}
	return days
}

// window is the occurrence that a time lies in. The day is that of its start.
func (r *alarmRule) window(t time.Time) (window, bool) {
	local := t.In(r.zone)
	for back := range 2 {
		y, m, d := local.Date()
		day := time.Date(y, m, d-back, 0, 0, 0, 0, time.UTC)
		if r.days != nil && !slices.Contains(r.days, day.Weekday()) {
			continue
		}
		w := window{instant(day, r.start, r.zone, false), instant(day, r.end, r.zone, true)}
		if !t.Before(w.start) && t.Before(w.end) {
			return w, true
		}
	}
	return window{}, false
}

// instant is when clocks in a zone show a time of a day. Of a time that they
// show twice, when summer time ends, it is the first or the last; for one that
// they skip, when it begins, the moment of the skip.
func instant(day time.Time, minutes int, zone *time.Location, last bool) time.Time {
	wall := day.Add(time.Duration(minutes) * time.Minute) // as if the zone were UTC
	var found time.Time
	for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := wall.Add(near).In(zone).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second)
		if _, real := t.In(zone).Zone(); real != offset {
			continue // clocks do not show it then
		}
		if found.IsZero() || last == t.After(found) {
			found = t
		}
	}
	if found.IsZero() {
		_, offset := wall.Add(-24 * time.Hour).In(zone).Zone()
		found, _ = wall.Add(-time.Duration(offset) * time.Second).In(zone).ZoneBounds()
	}
	return found.UTC()
}

// clock shows a time as the alarm's clocks do.
func (r *alarmRule) clock(t time.Time) string { return t.In(r.zone).Format("2006-01-02 15:04 MST") }

// text is a sentence behind the alarm's own message.
func (r *alarmRule) text(sentence string) string {
	if r.message == "" {
		return sentence
	}
	return strings.TrimRight(r.message, ".") + ". " + sentence
}

func clipAt(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
