package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

func TestConnectionSurvivesRestart(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	created := must[sluice.Connection](t)(s.CreateConnection(ctx(), awsConnection("Test AWS"), awsSecrets))
	if created.ID != "1" || created.Revision != 1 || !created.Created.Equal(start) || !created.Updated.Equal(start) {
		t.Errorf("created = %+v", created)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(created.DownlinkID) {
		t.Errorf("DownlinkID = %q, want a UUID of version 4", created.DownlinkID)
	}
	h.restart()
	s = h.store()
	got := must[sluice.Connection](t)(s.Connection("1"))
	if diff := cmp.Diff(created, got); diff != "" {
		t.Errorf("after a restart (-created +got):\n%s", diff)
	}
	want := fmt.Sprintf(`{"big":12345678901234567890,"html":"<a&b>","poolSize":10.0,"privateKey":%q,"region":"eu-west-1","secretAccessKey":%q}`, pemSecret, awsSecret)
	if string(got.Configuration) != want {
		t.Errorf("configuration = %s\nwant %s", got.Configuration, want)
	}
	byID, ok := s.ConnectionByDownlinkID(created.DownlinkID)
	if !ok || byID.ID != "1" {
		t.Errorf("by downlink id: %+v, %v", byID, ok)
	}
	if _, ok := s.ConnectionByDownlinkID(""); ok {
		t.Error("an empty downlink id finds a connection")
	}
}

func TestConnectionIsReplaced(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	created := must[sluice.Connection](t)(s.CreateConnection(ctx(), awsConnection("a"), awsSecrets))

	change := created
	change.Name, change.DownlinkID = "b", "stolen"
	change.Configuration = json.RawMessage(`{"region":"us-east-1"}`)
	replaced := must[sluice.Connection](t)(s.ReplaceConnection(ctx(), change, awsSecrets))
	if replaced.Revision != 2 || replaced.DownlinkID != created.DownlinkID || replaced.Name != "b" {
		t.Errorf("replaced = %+v", replaced)
	}
	if _, err := s.ReplaceConnection(ctx(), change, awsSecrets); sluice.CodeOf(err) != sluice.CodePrecondition {
		t.Errorf("a replacement of revision 1: %v, want CodePrecondition", err)
	}
	change.Revision = 0
	if _, err := s.ReplaceConnection(ctx(), change, awsSecrets); err != nil {
		t.Errorf("a replacement of any revision: %v", err)
	}
	h.restart()
	got := must[sluice.Connection](t)(h.store().Connection("1"))
	if got.Revision != 3 || string(got.Configuration) != `{"region":"us-east-1"}` {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestIDsAreNeverReused(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	for range 11 {
		must[sluice.Connection](t)(s.CreateConnection(ctx(), awsConnection("c"), nil))
	}
	for _, id := range []string{"11", "3"} {
		if err := s.DeleteConnection(ctx(), id); err != nil {
			t.Fatal(err)
		}
	}
	h.restart()
	s = h.store()
	if c := must[sluice.Connection](t)(s.CreateConnection(ctx(), awsConnection("c"), nil)); c.ID != "12" {
		t.Errorf("id = %s, want 12", c.ID)
	}
	var ids []string
	for _, c := range s.Connections() {
		ids = append(ids, c.ID)
	}
	if diff := cmp.Diff([]string{"1", "2", "4", "5", "6", "7", "8", "9", "10", "12"}, ids); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Connection("11"); sluice.CodeOf(err) != sluice.CodeNotFound {
		t.Errorf("a deleted connection: %v", err)
	}
}

func TestUnknownConnections(t *testing.T) {
	s := newHouse(t).store()
	_, get := s.Connection("9")
	_, replace := s.ReplaceConnection(ctx(), sluice.Connection{ID: "9"}, nil)
	for name, err := range map[string]error{"get": get, "replace": replace, "delete": s.DeleteConnection(ctx(), "9")} {
		if e, ok := errors.AsType[*sluice.Error](err); !ok || e.Code != sluice.CodeNotFound {
			t.Errorf("%s: %v, want CodeNotFound", name, err)
		}
	}
}

func TestConfigurationMustBeAnObject(t *testing.T) {
	s := newHouse(t).store()
	for _, text := range []string{`[]`, `null`, `"x"`, `{"privateKey":"SECRET`, `7`} {
		c := awsConnection("x")
		c.Configuration = json.RawMessage(text)
		if _, err := s.CreateConnection(ctx(), c, awsSecrets); sluice.CodeOf(err) != sluice.CodeInvalid {
			t.Errorf("%s: %v, want CodeInvalid", text, err)
		}
	}
	if n := len(s.Connections()); n != 0 {
		t.Errorf("%d connections are stored", n)
	}
}

func TestCopiesAreReturned(t *testing.T) {
	s := newHouse(t).store()
	c := must[sluice.Connection](t)(s.CreateConnection(ctx(), awsConnection("x"), awsSecrets))
	want := string(c.Configuration)
	for i := range c.Configuration {
		c.Configuration[i] = 'x'
	}
	got := s.Connections()[0]
	if string(got.Configuration) != want {
		t.Errorf("the store was changed from outside: %s", got.Configuration)
	}
}

func TestConcurrentWriters(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 10 {
				c, err := s.CreateConnection(ctx(), awsConnection(fmt.Sprintf("%d-%d", w, i)), awsSecrets)
				if err != nil {
					t.Error(err)
					return
				}
				c.Name += "!"
				if _, err := s.ReplaceConnection(ctx(), c, awsSecrets); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if err := s.DeleteConnection(ctx(), c.ID); err != nil {
						t.Error(err)
					}
				}
				s.Connections()
			}
		})
	}
	wg.Wait()
	want := s.Connections()
	if len(want) != 40 {
		t.Errorf("%d connections, want 40", len(want))
	}
	h.restart()
	if diff := cmp.Diff(want, h.store().Connections()); diff != "" {
		t.Errorf("after a restart:\n%s", diff)
	}
}
