package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice"
	"sluice/internal/seal"
)

func create(t *testing.T) (*seal.Key, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret.key")
	k, err := seal.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func sealed(t *testing.T, s sluice.Sealer, clear string) []byte {
	t.Helper()
	b, err := s.Seal([]byte(clear))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealAndOpen(t *testing.T) {
	created, path := create(t)
	loaded, err := seal.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if created.ID() != loaded.ID() || len(created.ID()) != 16 || loaded.Warning() != "" {
		t.Errorf("ids %s and %s, warning %q", created.ID(), loaded.ID(), loaded.Warning())
	}
	for _, clear := range []string{"", "x", strings.Repeat("secret", 1000)} {
		s := sealed(t, created, clear)
		if clear == strings.Repeat("secret", 1000) && bytes.Contains(s, []byte("secret")) {
			t.Error("the value is in clear")
		}
		if bytes.Equal(s, sealed(t, created, clear)) {
			t.Error("two seals are equal")
		}
		got, err := loaded.Open(s)
		if err != nil || string(got) != clear {
			t.Errorf("opened %q, %v", got, err)
		}
	}
}

func TestOtherKeyAndDamageAreToldApart(t *testing.T) {
	k, _ := create(t)
	other, _ := create(t)
	s := sealed(t, k, "secret")
	if _, err := other.Open(s); !errors.Is(err, seal.ErrOtherKey) {
		t.Errorf("another key: %v", err)
	}
	for i := range s {
		damaged := bytes.Clone(s)
		damaged[i] ^= 1
		_, err := k.Open(damaged)
		if want := i == 0 || i > 8; want != errors.Is(err, seal.ErrDamaged) || err == nil {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for n := range s {
		if _, err := k.Open(s[:n]); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	secret := bytes.Repeat([]byte{0xfb, 7}, 16)
	want, err := seal.New(secret)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	for _, text := range []string{
		hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)) + "\n",
		base64.StdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret) + "\r\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := seal.Load(path)
		if err != nil || k.ID() != want.ID() {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, sentence := range map[string]string{
		"":                        "has a key of 0 bytes, not of 32",
		"AAAA":                    "has a key of 3 bytes, not of 32",
		strings.Repeat("00", 31):  "has a key of 46 bytes",
		"not a key at all !!":     "does not hold a key",
		strings.Repeat("A", 4096): "has a key of 3072 bytes",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := seal.Load(path)
		e, ok := errors.AsType[*sluice.Error](err)
		if !ok || !strings.Contains(e.Message, sentence) {
			t.Errorf("%.20q: %v, want %q", text, err, sentence)
		}
		if len(text) > 10 && strings.Contains(err.Error(), text) {
			t.Error("the error shows the file")
		}
	}
}

func TestKeyFileThatOthersCanRead(t *testing.T) {
	_, path := create(t)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := seal.Load(path)
	if err != nil || !strings.Contains(k.Warning(), "0644") {
		t.Errorf("warning %q, %v", k.Warning(), err)
	}
}

func TestCreateKeepsWhatIsThere(t *testing.T) {
	k, path := create(t)
	if _, err := seal.Create(path); err == nil {
		t.Error("the key was overwritten")
	}
	again, err := seal.Load(path)
	if err != nil || again.ID() != k.ID() {
		t.Errorf("the key is another: %v", err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %o", info.Mode().Perm())
	}
	if _, err := seal.Create(filepath.Join(path, "below")); err == nil {
		t.Error("made below a file")
	}
}

func TestMissingKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	if _, err := seal.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load: %v", err)
	}
	f, err := seal.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seal(nil); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("Seal: %v", err)
	}
	if _, err := f.Open(nil); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("Open: %v", err)
	}
	if created, err := f.Ensure(); err != nil || !created {
		t.Fatalf("Ensure: %v, %v", created, err)
	}
	if created, err := f.Ensure(); err != nil || created {
		t.Errorf("Ensure again: %v, %v", created, err)
	}
	s := sealed(t, f, "secret")
	f, err = seal.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.Open(s); err != nil || string(got) != "secret" || f.Warning() != "" {
		t.Errorf("opened %q, %v, warning %q", got, err, f.Warning())
	}
}

func TestOpenFileRefusesADamagedKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenFile(path); err == nil {
		t.Error("a damaged key file was opened")
	}
}
