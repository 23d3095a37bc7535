package awsiottest

import (
	"net/http"
	"sync"
)

// Fault is a way in which the registry API fails on request.
type Fault struct {
	// Action is the action that fails, such as "CreateThing"; "" is every one.
	Action string
	// Times is how many calls fail; 0 or less is all until [Server.ClearFaults].
	Times int
	// Status is the HTTP status, such as 503; Code the exception, such as
	// "ServiceUnavailableException".
	Status  int
	Code    string
	Message string
}

// faults are the faults that were asked for, and the count of calls.
type faults struct {
	options Options

	mu     sync.Mutex
	active []Fault
	denied map[string]bool
	calls  map[string]int
}

func newFaults(o Options) *faults {
	return &faults{options: o, denied: map[string]bool{}, calls: map[string]int{}}
}

// take counts a call and returns the error that it must fail with, if any.
func (f *faults) take(action, resource string) *apiError {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[action]++
	for i := range f.active {
		fault := &f.active[i]
		if fault.Action != "" && fault.Action != action {
			continue
		}
		err := &apiError{status: fault.Status, code: fault.Code, message: fault.Message}
		if fault.Times > 0 {
			if fault.Times--; fault.Times == 0 {
				f.active = append(f.active[:i], f.active[i+1:]...)
			}
		}
		return err
	}
	if f.denied[action] {
		return f.accessDenied(action, resource)
	}
	return nil
}

// accessDenied is what the identity service answers for a missing permission.
// The API's model names UnauthorizedException (401), but a missing permission
// is answered with AccessDeniedException (403) and this text, as in reports
// of users.
func (f *faults) accessDenied(action, resource string) *apiError {
	user := "arn:aws:iam::" + f.options.AccountID + ":user/emulator"
	return &apiError{status: http.StatusForbidden, code: "AccessDeniedException", message: "User: " + user +
		" is not authorized to perform: iot:" + action + " on resource: " + f.options.arn(resource) +
		" because no identity-based policy allows the iot:" + action + " action"}
}

// Fail makes calls of the registry API fail. Faults apply in the order in
// which they were added, one a call.
func (s *Server) Fail(f Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.active = append(s.faults.active, f)
}

// ThrottleRegistry makes the next n calls of the registry API answer
// ThrottlingException (HTTP 400).
func (s *Server) ThrottleRegistry(n int) {
	if n > 0 {
		e := throttled()
		s.Fail(Fault{Times: n, Status: e.status, Code: e.code, Message: e.message})
	}
}

// Deny takes the permission for an action, such as "CreateThing", from the
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
// a good signature, with those that failed afterwards.
func (s *Server) Calls(action string) int {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return s.faults.calls[action]
}
