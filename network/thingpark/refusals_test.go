package thingpark

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice"
)

// recorder hands events on.
type recorder chan sluice.Event

func (r recorder) Record(e sluice.Event) { r <- e }

func TestRefusalsAreCounted(t *testing.T) {
	told := make(recorder, 100)
	r := newRefusals("n1", told, 300*time.Millisecond)
	defer r.close()
	next := func() sluice.Event {
		t.Helper()
		select {
		case e := <-told:
			return e
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
			panic("unreachable")
		}
	}
	refuse := func(cause string) {
		for range 10 {
			r.tell(cause, sluice.Event{Detail: cause + "."})
		}
	}
	refuse("token")
	refuse("time")
	if a, b := next(), next(); a.Detail != "token." || b.Detail != "time." || a.Network != "n1" {
		t.Errorf("%+v, %+v", a, b)
	}
	// What came meanwhile is told when the period is over, even if nothing
	// comes any more.
	seen := map[bool]int{}
	for range 2 {
		e := next()
		if !strings.Contains(e.Detail, "(9 more") {
			t.Errorf("%+v", e)
		}
		seen[strings.HasPrefix(e.Detail, "token.")]++
	}
	if seen[true] != 1 || seen[false] != 1 {
		t.Errorf("%v", seen)
	}
	r.close()
	// A door that was replaced may still refuse something: that is told at once.
	r.tell("token", sluice.Event{Detail: "token."})
	if len(told) != 1 || strings.Contains((<-told).Detail, "more for this cause") {
		t.Error("what came after the end was not told as it is")
	}
}

func TestNoRecorder(t *testing.T) {
	r := newRefusals("n1", nil, time.Minute)
	r.tell("token", sluice.Event{})
	r.close()
}

// What could not be stored is told with the cause in words, and what to look
// at; who sent it is only to send it again.
func TestUnavailable(t *testing.T) {
	for _, c := range []struct {
		err            error
		timeout        bool
		detail, remedy string
	}{
		{
			fmt.Errorf("append: %w", context.DeadlineExceeded), true,
			"It was not on the disk within a second.", "Check how busy the machine is, and the disk of the data directory.",
		},
		{
			&sluice.Error{Code: sluice.CodeUnavailable, Message: "The disk is nearly full.", Hint: "Make room."}, false,
			"The disk is nearly full.", "Make room.",
		},
		{errors.New("odd"), false, "odd", "Check the disk of the data directory, and the log."},
	} {
		r := unavailable(c.err)
		if r.status != 503 || r.hint != "Send it again." || r.detail != c.detail || r.remedy != c.remedy || (r.reason == sluice.ReasonTimeout) != c.timeout {
			t.Errorf("%v: %+v", c.err, r)
		}
	}
}
