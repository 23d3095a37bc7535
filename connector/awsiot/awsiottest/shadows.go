package awsiottest

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"sluice"
	"sluice/connector/awsiot/awsiottest/shadow"
)

// shadowService carries requests to the shadows and their answers back: from
// reserved topics and, for dataPlane, from HTTP.
type shadowService struct {
	store   *shadow.Store
	clock   sluice.Clock
	publish func(topic string, payload []byte)

	mu       sync.Mutex
	delay    time.Duration
	refusal  *shadow.Error      // of every request; nil: none
	inFlight map[string]int     // by thing
	requests map[string]*bucket // by thing

	done chan struct{}
	wait sync.WaitGroup
}

var _ reservedService = (*shadowService)(nil)

// The quotas of shadows. Source: AWS General Reference, "Device Shadow".
const (
	shadowsInFlight = 10 // requests of a thing that are not answered
	shadowRequests  = 20 // requests of a thing a second
	shadowNameSize  = 64
)

var shadowPattern = regexp.MustCompile(`^[$a-zA-Z0-9:_-]+$`)

func newShadowService(clock sluice.Clock, publish func(topic string, payload []byte)) *shadowService {
	return &shadowService{
		store: shadow.NewStore(shadow.DefaultLimits(), clock), clock: clock, publish: publish,
		inFlight: map[string]int{}, requests: map[string]*bucket{}, done: make(chan struct{}),
	}
}

// stop ends every delay: what waits over MQTT is not answered any more. The
// owner calls wait.Wait once no more requests come.
func (s *shadowService) stop() { close(s.done) }

// shadowsPrefix is where the topics of shadows begin.
const shadowsPrefix = "$aws/things/"

// The operations of a shadow, as topics name them.
const (
	opGet    = "get"
	opUpdate = "update"
	opDelete = "delete"
)

// shadowTopic reads $aws/things/<thing>/shadow[/name/<name>]/<operation>.
func shadowTopic(topic string) (id shadow.ID, op string, ok bool) {
	levels := strings.Split(strings.TrimPrefix(topic, shadowsPrefix), "/")
	switch {
	case len(levels) == 3 && levels[1] == "shadow":
		id, op = shadow.ID{Thing: levels[0]}, levels[2]
	case len(levels) == 5 && levels[1] == "shadow" && levels[2] == "name" && levels[3] != "":
		id, op = shadow.ID{Thing: levels[0], Name: levels[3]}, levels[4]
	}
	return id, op, id.Thing != "" && (op == opGet || op == opUpdate || op == opDelete)
}

// shadowPath is where the topics of a shadow begin.
func shadowPath(id shadow.ID) string {
	path := shadowsPrefix + id.Thing + "/shadow/"
	if id.Name != "" {
		path += "name/" + id.Name + "/"
	}
	return path
}

func (s *shadowService) accepts(topic string) bool {
	_, _, ok := shadowTopic(topic)
	return ok
}

// handle takes a request that was published. It is answered at once, or after
// the delay that was asked for.
func (s *shadowService) handle(p reservedPublish) {
	id, op, _ := shadowTopic(p.topic)
	delay, bad := s.begin(id)
	if bad != nil {
		s.publish(p.topic+"/rejected", bad.Document())
		return
	}
	if delay == 0 {
		s.answer(id, op, p.payload)
		return
	}
	s.wait.Go(func() {
		s.pause(context.Background(), delay)
		select {
		case <-s.done:
		default:
			s.answer(id, op, p.payload)
		}
	})
}

func (s *shadowService) answer(id shadow.ID, op string, payload []byte) {
	defer s.end(id)
	if bad := checkShadowNames(id, s.clock()); bad != nil {
		s.publish(shadowPath(id)+op+"/rejected", bad.Document())
		return
	}
	answers, bad := s.do(id, op, payload)
	if bad != nil {
		s.publish(shadowPath(id)+op+"/rejected", bad.Document())
		return
	}
	s.tell(id, op, answers)
}

// checkShadowNames checks names as HTTP does. That MQTT does so too, and the
// sentences, are inferred.
func checkShadowNames(id shadow.ID, now time.Time) *shadow.Error {
	if len(id.Thing) > nameSize || !thingPattern.MatchString(id.Thing) {
		return shadow.NewError(400, "Invalid thing name", now)
	}
	if id.Name != "" && (len(id.Name) > shadowNameSize || !shadowPattern.MatchString(id.Name)) {
		return shadow.NewError(400, "Invalid shadow name", now)
	}
	return nil
}

func (s *shadowService) do(id shadow.ID, op string, payload []byte) (shadow.Answers, *shadow.Error) {
	s.mu.Lock()
	refusal := s.refusal
	s.mu.Unlock()
	if refusal != nil {
		return shadow.Answers{}, shadow.Reject(refusal.Code, refusal.Message, payload, s.clock())
	}
	switch op {
	case opUpdate:
		return s.store.Update(id, payload)
	case opDelete:
		return s.store.Delete(id, payload)
	}
	return s.store.Get(id, payload)
}

// tell publishes what a request led to.
func (s *shadowService) tell(id shadow.ID, op string, a shadow.Answers) {
	path := shadowPath(id) + op
	s.publish(path+"/accepted", a.Accepted)
	if a.Documents != nil {
		s.publish(path+"/documents", a.Documents)
	}
	if a.Delta != nil {
		s.publish(path+"/delta", a.Delta)
	}
}

// overHTTP does a request that came by HTTP. What it changed is published,
// an error is not (Developer Guide, "Device Shadow error messages"); that a
// get is not either is inferred.
func (s *shadowService) overHTTP(ctx context.Context, id shadow.ID, op string, payload []byte) ([]byte, *shadow.Error) {
	delay, bad := s.begin(id)
	if bad != nil {
		return nil, bad
	}
	defer s.end(id)
	s.pause(ctx, delay)
	answers, bad := s.do(id, op, payload)
	if bad != nil {
		return nil, bad
	}
	if op != opGet {
		s.tell(id, op, answers)
	}
	return answers.Accepted, nil
}

// begin counts a request. One too many is not done at all.
func (s *shadowService) begin(id shadow.ID) (time.Duration, *shadow.Error) {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.requests[id.Thing]
	if b == nil {
		b = newBucket(shadowRequests)
		s.requests[id.Thing] = b
	}
	if s.inFlight[id.Thing] >= shadowsInFlight || !b.take(now) {
		return 0, shadow.TooManyRequests(now)
	}
	s.inFlight[id.Thing]++
	return s.delay, nil
}

func (s *shadowService) end(id shadow.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight[id.Thing]--; s.inFlight[id.Thing] == 0 {
		delete(s.inFlight, id.Thing)
	}
}

func (s *shadowService) pause(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-s.done:
	}
}

// DelayShadows makes every request to a shadow take so long, by the real time;
// it is under way meanwhile, and AWS allows 10 for a thing.
func (s *Server) DelayShadows(d time.Duration) {
	s.shadows.mu.Lock()
	defer s.shadows.mu.Unlock()
	s.shadows.delay = d
}

// RejectShadows has every request to a shadow rejected so; with code 0 none is.
func (s *Server) RejectShadows(code int, message string) {
	s.shadows.mu.Lock()
	defer s.shadows.mu.Unlock()
	s.shadows.refusal = nil
	if code != 0 {
		s.shadows.refusal = &shadow.Error{Code: code, Message: message}
	}
}

// Shadow returns the document of a shadow, named or, with "", classic.
func (s *Server) Shadow(thing, name string) ([]byte, bool) {
	a, err := s.shadows.store.Get(shadow.ID{Thing: thing, Name: name}, nil)
	return a.Accepted, err == nil
}

// UpdateShadow changes a shadow as an application would, and publishes what it
// leads to. It counts for no quota.
func (s *Server) UpdateShadow(thing, name string, request []byte) error {
	id := shadow.ID{Thing: thing, Name: name}
	a, err := s.shadows.store.Update(id, request)
	if err != nil {
		return err
	}
	s.shadows.tell(id, opUpdate, a)
	return nil
}
