package awsiottest

import (
	"context"
	"strings"
	"sync"
	"time"
)

// Fault is a way in which the HTTP APIs (the registry, publish and shadows)
// fail on request.
type Fault struct {
	// Action is the action that fails, such as "CreateThing", "Publish" or
	// "UpdateThingShadow"; "" is every one.
	Action string
	// Times is how many calls fail; 0 or less is all until [Server.ClearFaults].
	Times int
	// Delay is how long the answer takes, by the real time.
	Delay time.Duration
	// Status is the HTTP status, such as 503; Code the exception, such as
	// "ServiceUnavailableException". Without a Status the call is delayed and
	// then done.
	Status  int
	Code    string
	Message string
}

// faults are the faults that were asked for, and the count of calls.
type faults struct {
	mu     sync.Mutex
	active []Fault
	denied map[string]bool
	calls  map[string]int
}

func newFaults() *faults {
	return &faults{denied: map[string]bool{}, calls: map[string]int{}}
}

// take counts a call, delays it, and returns the error that it must fail with,
// if any.
func (f *faults) take(ctx context.Context, action string) *apiError {
	fault, ok := f.next(action)
	if !ok {
		return nil
	}
	if fault.Delay > 0 {
		t := time.NewTimer(fault.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done(): // the client or the server has gone
		}
	}
	if fault.Status == 0 {
		return nil
	}
	return &apiError{status: fault.Status, code: fault.Code, message: fault.Message}
}

func (f *faults) next(action string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[action]++
	for i := range f.active {
		fault := &f.active[i]
		if fault.Action != "" && fault.Action != action {
			continue
		}
		found := *fault
		if fault.Times > 0 {
			if fault.Times--; fault.Times == 0 {
				f.active = append(f.active[:i], f.active[i+1:]...)
			}
		}
		return found, true
	}
	return Fault{}, false
}

// isDenied reports whether an action with its prefix, such as
// "iot:CreateThing", was taken from everybody.
func (f *faults) isDenied(action string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.denied[strings.TrimPrefix(action, "iot:")]
}

// Fail makes calls of the HTTP APIs fail. Faults apply in the order in which
// they were added, one a call.
func (s *Server) Fail(f Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.active = append(s.faults.active, f)
}

// ThrottleRegistry makes the next n calls of the HTTP APIs answer
// ThrottlingException (HTTP 400).
func (s *Server) ThrottleRegistry(n int) {
	if n > 0 {
		e := throttled()
		s.Fail(Fault{Times: n, Status: e.status, Code: e.code, Message: e.message})
	}
}

// Deny takes the permission for an action, such as "CreateThing", from every
// access key: AccessDeniedException (HTTP 403) until [Server.Allow].
func (s *Server) Deny(action string) { s.setDenied(action, true) }

// Allow gives a permission back that [Server.Deny] took.
func (s *Server) Allow(action string) { s.setDenied(action, false) }

func (s *Server) setDenied(action string, denied bool) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.denied[action] = denied
}

// ClearFaults ends every fault and gives every permission back.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.active = nil
	s.faults.denied = map[string]bool{}
}

// Calls is how many calls of an action, such as "CreateThing", came in with
// a good signature or certificate, with those that failed afterwards.
func (s *Server) Calls(action string) int {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return s.faults.calls[action]
}
