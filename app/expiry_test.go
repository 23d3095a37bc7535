package app

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sluice"
)

// drawer is a store of one connection whose configuration is when it expires.
type drawer struct {
	connection sluice.Connection
	blobs      map[string][]byte
	told       []sluice.Event
}

func (s *drawer) Connections() []sluice.Connection   { return []sluice.Connection{s.connection} }
func (s *drawer) Blob(key string) ([]byte, bool)     { b, ok := s.blobs[key]; return b, ok }
func (s *drawer) PutBlob(key string, v []byte) error { s.blobs[key] = v; return nil }
func (s *drawer) Record(e sluice.Event)              { s.told = append(s.told, e) }
func (s *drawer) set(end time.Time)                  { s.connection.Configuration, _ = json.Marshal(end) }
func (s *drawer) take() (events []sluice.Event)      { events, s.told = s.told, nil; return events }
func (s *drawer) open(clock sluice.Clock) *expiry {
	return newExpiry(s, []sluice.Connector{dated{}}, clock)
}

// dated is a connector whose configuration is the time at which it ends.
type dated struct{ sluice.Connector }

func (dated) Info() sluice.ConnectorInfo { return sluice.ConnectorInfo{ID: "dated"} }

func (dated) Expires(c json.RawMessage) (t time.Time, ok bool) {
	return t, json.Unmarshal(c, &t) == nil
}

// A certificate is told of 30, 7 and 1 days before its end and at its end,
// once each, over restarts too; a new one begins anew.
func TestACertificateThatExpires(t *testing.T) {
	const day = 24 * time.Hour
	end := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	now := end.Add(-40 * day)
	s := &drawer{connection: sluice.Connection{ID: "1", ConnectorID: "dated", Name: "AWS"}, blobs: map[string][]byte{}}
	s.set(end)
	var told []string
	for ; now.Before(end.Add(3 * day)); now = now.Add(6 * time.Hour) {
		s.open(func() time.Time { return now }).check() // a restart each time
		for _, e := range s.take() {
			if e.Type != sluice.EventCertificateExpiring || e.Connection != "1" || !strings.Contains(e.Hint, "PUT /connections/1") {
				t.Errorf("%+v", e)
			}
			told = append(told, string(e.Level)+" "+e.Detail)
		}
	}
	want := []string{
		`warning The certificate of connection "AWS" expires in 30 days, on 2027-03-01T12:00:00Z.`,
		`warning The certificate of connection "AWS" expires in 7 days, on 2027-03-01T12:00:00Z.`,
		`error The certificate of connection "AWS" expires in 24 hours, on 2027-03-01T12:00:00Z.`,
		`error The certificate of connection "AWS" expired on 2027-03-01T12:00:00Z. The cloud refuses it.`,
	}
	if strings.Join(told, "\n") != strings.Join(want, "\n") {
		t.Errorf("told:\n%s", strings.Join(told, "\n"))
	}
	s.set(now.Add(5 * day))
	e := s.open(func() time.Time { return now })
	e.check()
	if got := s.take(); len(got) != 1 || !strings.Contains(got[0].Detail, "in 5 days") {
		t.Errorf("a new certificate that ends soon: %+v", got)
	}
	s.set(now.Add(500 * day))
	e.check()
	if got := s.take(); len(got) != 0 {
		t.Errorf("a new certificate that ends late: %+v", got)
	}
}
