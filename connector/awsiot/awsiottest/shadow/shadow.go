// Package shadow is the Device Shadow service of the AWS IoT emulator: the
// documents and their rules, without a carrier. HTTP and MQTT bring it
// requests and take its answers away.
//
// Sources: AWS IoT Core Developer Guide, "Device Shadow service documents",
// "Simulating Device Shadow service communications" and "Device Shadow error
// messages"; AWS General Reference, "AWS IoT Core endpoints and quotas". What
// is marked as inferred may differ. README.md of the emulator lists each
// behaviour with its test.
package shadow

import (
	"maps"
	"slices"
	"sync"
	"time"

	"sluice"
)

// Limits are the quotas of a document.
type Limits struct {
	// DocumentSize is how many bytes a state has at most, written without
	// spaces; metadata does not count. AWS's is 8 KB.
	DocumentSize int
	// Depth is how many levels desired and reported have at most. The guide
	// says 6 ("JSON contains too many levels of nesting; maximum is 6").
	Depth int
}

// DefaultLimits are AWS's.
func DefaultLimits() Limits { return Limits{DocumentSize: 8 << 10, Depth: 6} }

// versionKept is how long a deleted shadow's version is remembered. Source:
// Developer Guide, "Interacting with shadows".
const versionKept = 48 * time.Hour

// ID names a shadow.
type ID struct {
	Thing string
	// Name is that of a named shadow, "" for the classic one.
	Name string
}

// Store holds the shadows of an account. Its methods are safe for use by
// several goroutines.
type Store struct {
	limits Limits
	clock  sluice.Clock

	mu      sync.Mutex
	shadows map[ID]*document
}

// NewStore makes an empty store.
func NewStore(limits Limits, clock sluice.Clock) *Store {
	return &Store{limits: limits, clock: clock, shadows: map[ID]*document{}}
}

// document is a shadow. A deleted one keeps its version for a while.
type document struct {
	desired, reported section
	version           int64
	deletedAt         time.Time // zero: it exists
}

func (d *document) exists() bool { return d != nil && d.deletedAt.IsZero() }

// Answers are what a request that was accepted gives to be published.
type Answers struct {
	// Accepted answers the request; over HTTP it is the body.
	Accepted []byte
	// Delta is nil where desired and reported do not differ; Documents tells
	// before and after. Both come with an update alone.
	Delta, Documents []byte
}

// Update changes a shadow, or makes it.
func (s *Store) Update(id ID, body []byte) (Answers, *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	r, bad := parseUpdate(body, s.limits)
	if bad != nil {
		return Answers{}, bad.at(now)
	}
	before := s.current(id, now)
	if r.version != nil && *r.version != before.version {
		return Answers{}, newError(409, "Version conflict").with(r.clientToken).at(now)
	}
	after := &document{
		desired: before.desired.apply(r.desired, now), reported: before.reported.apply(r.reported, now),
		version: before.version + 1,
	}
	if after.size() > s.limits.DocumentSize {
		return Answers{}, tooLarge().with(r.clientToken).at(now)
	}
	s.shadows[id] = after
	return Answers{Accepted: acceptedUpdate(r, after.version, now), Delta: deltaOf(after, r.clientToken, now), Documents: documentsOf(before, after, r.clientToken, now)}, nil
}

// current is the document that a request finds: an empty one, of version 0 or
// of that of the shadow which was deleted, where there is none.
func (s *Store) current(id ID, now time.Time) *document {
	d := s.shadows[id]
	switch {
	case d.exists():
		return d
	case d != nil && now.Sub(d.deletedAt) < versionKept:
		return &document{version: d.version}
	}
	return &document{}
}

// Get reads a shadow. The body is empty or holds a client token.
func (s *Store) Get(id ID, body []byte) (Answers, *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	token, bad := parseToken(body)
	if bad != nil {
		return Answers{}, bad.at(now)
	}
	d := s.shadows[id]
	if !d.exists() {
		return Answers{}, noShadow(id).with(token).at(now)
	}
	return Answers{Accepted: documentOf(d, token, now)}, nil
}

// Delete removes a shadow; its version is not reset. That a deletion does not
// count as a version is inferred.
func (s *Store) Delete(id ID, body []byte) (Answers, *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	token, bad := parseToken(body)
	if bad != nil {
		return Answers{}, bad.at(now)
	}
	d := s.shadows[id]
	if !d.exists() {
		return Answers{}, noShadow(id).with(token).at(now)
	}
	s.shadows[id] = &document{version: d.version, deletedAt: now}
	return Answers{Accepted: encode(answer{"version": d.version, "timestamp": now.Unix()}.token(token))}, nil
}

// Names are the named shadows of a thing, at most limit of them, sorted, after
// the one named. next is the name to go on after, "" at the end.
func (s *Store) Names(thing, after string, limit int) (names []string, next string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range maps.Keys(s.shadows) {
		if id.Thing == thing && id.Name > after && s.shadows[id].exists() {
			names = append(names, id.Name)
		}
	}
	slices.Sort(names)
	if len(names) > limit {
		return names[:limit], names[limit-1]
	}
	return names, ""
}
