package awsiot

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

func value(n int) members { return members{"n": json.RawMessage(fmt.Sprint(n))} }

// nextTurn waits for the entry whose turn it is.
func (q *shadowQueue) nextTurn(t *testing.T) *shadowEntry {
	t.Helper()
	for {
		e, wait := q.take(time.Now())
		if e != nil {
			return e
		}
		if wait >= time.Hour {
			t.Fatal("nothing is due")
		}
		time.Sleep(wait)
	}
}

func (q *shadowQueue) request(t *testing.T, e *shadowEntry, token string) shadowRequest {
	t.Helper()
	r, ok := q.begin(e, token)
	if !ok {
		t.Fatal("there is no request")
	}
	return r
}

// A shadow that was to be read by somebody who has left meanwhile is not
// updated with nothing, which would empty it.
func TestShadowQueueNeverEmpties(t *testing.T) {
	q := newShadowQueue(time.Second, time.Minute, nil)
	q.listen(true)
	q.look("A", "A")
	e := q.nextTurn(t)
	q.listen(false)
	if r, ok := q.begin(e, "1"); ok {
		t.Errorf("request %s", r.body)
	}
	q.giveBack(e)
}

// One request of a device is under way, the newest values win, and two are a
// second apart; other devices do not wait.
func TestShadowQueueCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newShadowQueue(time.Second, time.Minute, nil)
		q.proven = true
		q.offer("A", "A", value(1))
		e := q.nextTurn(t)
		r := q.request(t, e, "1")
		for n := range 50 {
			q.offer("A", "A", value(n))
		}
		if other, _ := q.take(time.Now()); other != nil {
			t.Fatal("two requests of one device are under way")
		}
		start := time.Now()
		q.end(e, r, false, 0)
		q.offer("B", "B", value(7))
		if e = q.nextTurn(t); e.device != "B" || time.Since(start) != 0 {
			t.Fatalf("%s after %v", e.device, time.Since(start))
		}
		q.end(e, q.request(t, e, ""), false, 0)
		e = q.nextTurn(t)
		if r = q.request(t, e, "2"); !strings.Contains(string(r.body), `"n":49}`) || time.Since(start) != time.Second {
			t.Errorf("%s after %v", r.body, time.Since(start))
		}
		q.end(e, r, false, 0)
		q.take(time.Now().Add(time.Hour))
		if len(q.entries) != 0 || q.size != 0 {
			t.Errorf("it is not forgotten: %d bytes, %v", q.size, q.entries)
		}
	})
}

// What is refused for the time being is made again, below what is newer, later
// and later; what is refused for good is not.
func TestShadowQueueRefused(t *testing.T) {
	for code, again := range map[int]bool{400: false, 404: false, 409: true, 413: false, 429: true, 500: true} {
		synctest.Test(t, func(t *testing.T) {
			q := newShadowQueue(time.Millisecond, time.Minute, nil)
			q.offer("A", "A", members{"n": json.RawMessage("1"), "old": json.RawMessage("1")})
			pauses := []time.Duration{}
			for round := range 9 {
				start := time.Now()
				e := q.nextTurn(t)
				pauses = append(pauses, time.Since(start))
				r := q.request(t, e, fmt.Sprint(round))
				rejection := readRejection(fmt.Appendf(nil, `{"code":%d,"message":"no","clientToken":"x"}`, code))
				if q.refused("A", "other", true, 1) || !q.refused("A", fmt.Sprint(round), rejection.again(), 1) {
					t.Fatal("the update is not known")
				}
				q.end(e, r, false, 0)
				if !again {
					break
				}
				q.offer("A", "A", value(2))
			}
			if !again {
				if e := q.entries["A"]; e.next != nil {
					t.Errorf("%d: it is made again", code)
				}
				return
			}
			want := []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60}
			for i := range want {
				want[i] *= time.Second
			}
			if diff := cmp.Diff(want, pauses); diff != "" {
				t.Errorf("%d: pauses (-want +got): %s", code, diff)
			}
			if diff := cmp.Diff(members{"n": json.RawMessage("2"), "old": json.RawMessage("1")}, q.entries["A"].next); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Shadows are asked for at most 50 times a second, only when somebody hears the
// answers, and again when none comes.
func TestShadowQueueAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := 0
		q := newShadowQueue(time.Millisecond, 10*time.Second, func(string) { silent++ })
		q.proven = true
		for n := range 100 {
			q.look(fmt.Sprint(n), "")
		}
		if e, _ := q.take(time.Now()); e != nil {
			t.Fatal("asked while nobody listens")
		}
		start := time.Now()
		q.listen(true)
		for range 100 {
			e := q.nextTurn(t)
			r := q.request(t, e, "")
			if !r.get {
				t.Fatal("no get")
			}
			q.end(e, r, false, 0)
			if e.device != "0" {
				q.answered(e.device, []byte("{}"), false, 0)
			}
		}
		if d := time.Since(start); d != 99*askSpacing {
			t.Errorf("100 gets took %v", d)
		}
		for range shadowAsks {
			e := q.nextTurn(t)
			if e.device != "0" {
				t.Fatalf("%s is asked for", e.device)
			}
			q.end(e, q.request(t, e, ""), false, 0)
		}
		if silent != 1 {
			t.Errorf("told %d times", silent)
		}
	})
}

// What waits is bounded.
func TestShadowQueueIsBounded(t *testing.T) {
	q := newShadowQueue(time.Second, time.Minute, nil)
	large := func() members { return members{"x": json.RawMessage(`"` + strings.Repeat("x", 8000) + `"`)} }
	n := 0
	for q.offer(fmt.Sprint(n), "", large()) {
		n++
	}
	if n < 1900 || q.size > shadowRoom || q.offer("0", "", large()) {
		t.Errorf("%d devices, %d bytes", n, q.size)
	}
	for n < shadowDevices && q.look(fmt.Sprint("a", n), "") {
		n++
	}
	if q.look("b", "") || q.befall("b", "", shadowFate{}) || len(q.entries) != shadowDevices {
		t.Errorf("%d devices", len(q.entries))
	}
}

// While it is not known whether updates are allowed there is one at a time.
func TestShadowQueueProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newShadowQueue(time.Second, time.Minute, nil)
		q.offer("A", "A", value(1))
		q.offer("B", "B", value(1))
		e := q.nextTurn(t)
		if other, _ := q.take(time.Now()); other != nil {
			t.Fatal("two at once")
		}
		q.hold(time.Hour)
		q.end(e, q.request(t, e, ""), true, 0)
		start := time.Now()
		time.Sleep(time.Hour)
		e = q.nextTurn(t)
		if d := time.Since(start); d < time.Hour {
			t.Errorf("after %v", d)
		}
		q.end(e, q.request(t, e, ""), false, 0)
		q.nextTurn(t)
	})
}

// The queue hands out by itself, and ends.
func TestShadowQueueDispatches(t *testing.T) {
	q := newShadowQueue(time.Millisecond, time.Minute, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { q.dispatch(ctx) })
	for n := range 100 {
		q.offer("A", "A", value(n))
		e := <-q.jobs
		q.end(e, q.request(t, e, ""), false, 0)
	}
	cancel()
	wg.Wait()
}

// The largest members go first, and only as many as must.
func TestMembersFit(t *testing.T) {
	text := func(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n) + `"`) }
	m := members{"a": text(3000), "b": text(4000), "c": text(5000), "d": text(10)}
	if diff := cmp.Diff([]string{"c"}, m.fit()); diff != "" || len(m) != 3 {
		t.Error(diff, len(m))
	}
	body, err := m.update("t")
	if err != nil || len(body) > maxShadow+100 || len(m.fit()) != 0 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

// A command is the same whenever it is read, and another one when it was set
// again.
func TestShadowCommandID(t *testing.T) {
	read := func(desired, stamp string) shadowCommand {
		doc := readShadowDocument([]byte(`{"state":{"desired":{"downlink":` + desired + `}},"metadata":{"desired":{"downlink":{"a":{"timestamp":` + stamp + `},"b":{"c":{"timestamp":5}}}}},"version":9}`))
		c, ok := doc.command("D")
		if !ok {
			t.Fatal("no command")
		}
		return c
	}
	first := read(`{"a":1, "b":{"c":2}}`, "7")
	if again := read(`{"b":{"c":2},"a":1}`, "7"); again.id != first.id || again.correlation != first.correlation || string(again.document) != string(first.document) {
		t.Errorf("%+v and %+v", first, again)
	}
	if later := read(`{"a":1,"b":{"c":2}}`, "8"); later.id == first.id || later.correlation == first.correlation {
		t.Errorf("%+v and %+v", first, later)
	}
	if own := read(`{"a":1,"CorrelationID":"00AB"}`, "8"); own.correlation != "00AB" || strings.Count(string(own.document), "CorrelationID") != 1 {
		t.Errorf("%+v", own)
	}
}

// Reports that tell nothing of a command are left alone; the causes of one that
// was not sent are told.
func TestShadowFates(t *testing.T) {
	for document, want := range map[string]string{
		`{"DevEUI_downlink_Sent":{"CorrelationID":"A","DeliveryStatus":"1"}}`:                           "sent",
		`{"DevEUI_downlink_Sent":{"CorrelationID":"A","DeliveryStatus":0,"DeliveryFailedCause1":"A1"}}`: "not sent",
		`{"DevEUI_downlink_Sent":{"DeliveryStatus":1}}`:                                                 "",
		`{"DevEUI_location":{"CorrelationID":"A"}}`:                                                     "",
	} {
		kind, _, _ := strings.Cut(strings.TrimPrefix(document, `{"`), `"`)
		f, ok := fateOf(&sluice.Message{Kind: sluice.Kind(kind), Document: []byte(document)})
		if got, _ := f.state["state"].(string); ok != (want != "") || got != want {
			t.Errorf("%s: %v %+v", document, ok, f)
		}
		if want == "not sent" && f.state["cause"] != "The network server did not send it: A1." {
			t.Errorf("cause %v", f.state["cause"])
		}
	}
}
