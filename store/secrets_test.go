package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/internal/seal"
	"sluice/store"
)

// asNetwork is a network with a secret.
func asNetwork(name string) sluice.NetworkConfig {
	return sluice.NetworkConfig{
		Kind: "thingpark", Name: name,
		Configuration: json.RawMessage(`{"asId":"TWA","asKey":"` + asSecret + `"}`),
	}
}

// furnish stores a connection and a network with secrets and one without.
func furnish(t *testing.T, s *store.Store) (c sluice.Connection, n sluice.NetworkConfig) {
	t.Helper()
	c = must[sluice.Connection](t)(s.CreateConnection(ctx(), awsConnection("Test AWS"), awsSecrets))
	n = must[sluice.NetworkConfig](t)(s.CreateNetwork(ctx(), asNetwork("Acme"), []string{"asKey"}))
	open := asNetwork("Open")
	open.Configuration = json.RawMessage(`{}`)
	must[sluice.NetworkConfig](t)(s.CreateNetwork(ctx(), open, []string{"asKey"}))
	return c, n
}

func otherKey(t *testing.T) func(*store.Options) {
	key := must[*seal.Key](t)(seal.Create(filepath.Join(t.TempDir(), "other.key")))
	return func(o *store.Options) { o.Sealer = key }
}

func forget(o *store.Options) { o.ForgetSecrets = true }

func TestSecretsAreNotOnDisk(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	c, _ := furnish(t, s)
	must[sluice.Connection](t)(s.ReplaceConnection(ctx(), c, awsSecrets))
	h.close()
	defer h.open()
	found := 0
	err := filepath.WalkDir(h.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range []string{"VERYSECRETPEM", awsSecret, asSecret} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds %s", path, secret)
			}
		}
		if bytes.Contains(data, []byte("eu-west-1")) {
			found++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("what is no secret was not found either: the search is wrong")
	}
}

func TestOtherKey(t *testing.T) {
	h := newHouse(t)
	c, n := furnish(t, h.store())
	missing, foreign := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "foreign")
	must[*seal.Key](t)(seal.Create(foreign))
	file := func(path string) func(*store.Options) {
		return func(o *store.Options) { o.Sealer = must[*seal.File](t)(seal.OpenFile(path)) }
	}
	for name, test := range map[string]struct {
		change  func(*store.Options)
		message string
	}{
		"missing":          {file(missing), "The key that the secrets were sealed with is not there; these cannot be read:"},
		"foreign file":     {file(foreign), "The key in " + foreign + " is not the one that the secrets were sealed with; these cannot be read:"},
		"foreign, no file": {otherKey(t), "The key is not the one that the secrets were sealed with; these cannot be read:"},
		"damaged": {
			func(o *store.Options) { o.Sealer = damagedSealer{o.Sealer} }, "These secrets are damaged and cannot be read:",
		},
	} {
		_, err := h.tryStore(test.change)
		e, ok := errors.AsType[*sluice.Error](err)
		if !ok {
			t.Fatalf("%s: %v", name, err)
		}
		if e.Message != test.message {
			t.Errorf("%s: message %q", name, e.Message)
		}
		if strings.Contains(e.Error()+e.Hint, n.ID) {
			t.Errorf("%s: the id of the network is told: %v", name, e)
		}
		want := []sluice.Problem{
			{Path: "connection 1 (Test AWS)", Message: "privateKey, secretAccessKey"},
			{Path: "network Acme", Message: "asKey"},
		}
		if diff := cmp.Diff(want, e.Fields); diff != "" {
			t.Errorf("%s: fields (-want +got)\n%s", name, diff)
		}
		if !strings.Contains(e.Hint, "--forget-secrets") {
			t.Errorf("%s: hint = %q", name, e.Hint)
		}
	}
	// The right key opens all of it, as if nothing had been.
	if diff := cmp.Diff(c, must[sluice.Connection](t)(h.store().Connection("1"))); diff != "" {
		t.Error(diff)
	}
}

func TestForgetSecrets(t *testing.T) {
	h := newHouse(t)
	_, n := furnish(t, h.store())
	other := otherKey(t)
	want := []store.MissingSecret{
		{Kind: "connection", ID: "1", Name: "Test AWS", Secrets: []string{"privateKey", "secretAccessKey"}},
		{Kind: "network", ID: n.ID, Name: "Acme", Secrets: []string{"asKey"}},
	}
	s := h.store(other, forget)
	if diff := cmp.Diff(want, s.MissingSecrets()); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	if got := s.MissingSecrets()[1].String(); got != "network Acme: asKey" {
		t.Errorf("the network that has lost secrets is told as %q", got)
	}
	if got := s.MissingOfNetwork(n.ID); !slices.Equal(got, []string{"asKey"}) {
		t.Errorf("missing of the network: %q", got)
	}
	if got := s.MissingOfNetwork("none"); got != nil {
		t.Errorf("missing of no network: %q", got)
	}
	c := must[sluice.Connection](t)(s.Connection("1"))
	if !c.Active || strings.Contains(string(c.Configuration), "privateKey") {
		t.Errorf("connection = %+v", c)
	}
	// The next start needs no flag and still tells what is missing.
	h.restart()
	s = h.store(other)
	if diff := cmp.Diff(want, s.MissingSecrets()); diff != "" {
		t.Errorf("missing after a restart (-want +got):\n%s", diff)
	}
	c.Configuration = awsConnection("").Configuration
	must[sluice.Connection](t)(s.ReplaceConnection(ctx(), c, awsSecrets))
	if diff := cmp.Diff(want[1:], s.MissingSecrets()); diff != "" {
		t.Errorf("missing after a replacement (-want +got):\n%s", diff)
	}
	h.restart()
	c = must[sluice.Connection](t)(h.store(other).Connection("1"))
	if !strings.Contains(string(c.Configuration), "VERYSECRETPEM") {
		t.Error("the secrets that were entered again are not there")
	}
}

// TestSecretsAreNotRepeated: JSON allows a property twice, and the first one
// must not stay in clear.
func TestSecretsAreNotRepeated(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	c := awsConnection("x")
	c.Configuration = json.RawMessage(`{"privateKey":"FIRSTSECRET","privateKey":"SECONDSECRET"}`)
	c = must[sluice.Connection](t)(s.CreateConnection(ctx(), c, awsSecrets))
	if string(c.Configuration) != `{"privateKey":"SECONDSECRET"}` {
		t.Errorf("configuration = %s", c.Configuration)
	}
}

// damagedSealer opens nothing.
type damagedSealer struct{ sluice.Sealer }

func (damagedSealer) Open([]byte) ([]byte, error) { return nil, seal.ErrDamaged }

// failingSealer cannot seal.
type failingSealer struct{ sluice.Sealer }

func (failingSealer) Seal([]byte) ([]byte, error) { return nil, seal.ErrNoKey }

func TestNothingIsStoredUnsealed(t *testing.T) {
	h := newHouse(t)
	s := h.store(func(o *store.Options) { o.Sealer = failingSealer{o.Sealer} })
	if _, err := s.CreateConnection(ctx(), awsConnection("x"), awsSecrets); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("err = %v", err)
	}
	if n := len(s.Connections()); n != 0 {
		t.Errorf("%d connections", n)
	}
}
