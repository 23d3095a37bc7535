package test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"sluice/app/demo"
)

// sluiceRun runs the program with arguments, to its end.
func sluiceRun(t *testing.T, args ...string) (exit int, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// down makes a second connection, which AWS does not let in, and sends
// everything to it too.
func down(t *testing.T, w *demo.World, p *process) (id string) {
	t.Helper()
	certificate, err := w.AWS.CreateKeysAndCertificate(false)
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID string }
	if err := p.api.Do(t.Context(), "POST", "/connections", map[string]any{
		"connectorId": "actility-aws-iot", "name": "down", "configuration": w.Configuration(func(c map[string]any) {
			c["certificate"], c["privateKey"], c["certificateId"] = certificate.CertificatePEM, certificate.PrivateKeyPEM, certificate.ARN
		}),
	}, &made); err != nil {
		t.Fatal(err)
	}
	if err := p.api.Do(t.Context(), "POST", "/flows", map[string]any{
		"name": "to the one that is down", "matchers": []any{},
		"connectors": []any{map[string]any{"id": "actility-aws-iot", "connectionId": made.ID}},
	}, nil); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// TestBackupAndRestore backs a Sluice up while reports flow, to a connection
// that is open and to one that is not, and goes on from the copy: what was
// accepted before the backup has arrived, or does, at both.
func TestBackupAndRestore(t *testing.T) {
	w, p := opened(t, 50, nil)
	second := down(t, w, p)
	stop := background(t, func(ctx context.Context) error { return w.Post(ctx, demo.Load{Rate: 300}) })
	flow := func(n int) {
		t.Helper()
		before := w.Totals().Arrived
		wait(t, "reports to arrive", func() bool { return w.Totals().Arrived >= before+n })
	}
	flow(600)

	before := [2]counters{p.counters(w.ConnectionID), p.counters(second)}
	folder := t.TempDir()
	file, withKey := filepath.Join(folder, "plain.tar"), filepath.Join(folder, "key.tar")
	for _, args := range [][]string{{"--out", file}, {"--out", withKey, "--with-key"}} {
		args = append([]string{"backup", "--url", p.api.Base, "--data", p.data}, args...)
		if exit, out := sluiceRun(t, args...); exit != 0 {
			t.Fatalf("backup: exit %d\n%s", exit, out)
		}
	}
	if exit, out := sluiceRun(t, "backup", "--url", p.api.Base, "--data", p.data, "--out", file); exit != 1 || !strings.Contains(out, "exists already") {
		t.Errorf("over a file: exit %d\n%s", exit, out)
	}
	noSecrets(t, p, file)
	flow(300)
	stop()
	settled(t, w, false)
	instance := read(t, filepath.Join(p.data, "instance"))
	p.terminate()
	accepted := w.Totals()

	wrongKey(t, p, file)
	data := filepath.Join(t.TempDir(), "new")
	exit, out := sluiceRun(t, "restore", "--data", data, withKey)
	if exit != 0 || !strings.Contains(out, "connection "+second+" (down): ") || strings.Contains(out, "not in the backup.") {
		t.Fatalf("restore: exit %d\n%s", exit, out)
	}
	if got := read(t, filepath.Join(data, "instance")); got != instance {
		t.Errorf("the instance is %q, was %q", got, instance)
	}
	p = serve(t, data, p.listen)
	p.opened(w.ConnectionID)
	if d := gjson.GetBytes(p.events("?type=system.restored"), "0.detail").String(); !strings.Contains(d, "restored from a backup of ") || !strings.Contains(d, " entries wait") {
		t.Errorf("events: %s", p.events(""))
	}
	if e := p.events("?type=journal.gap"); strings.Contains(string(e), "journal.gap") {
		t.Errorf("a backup looks like damage: %s", e)
	}
	wait(t, "the counters", func() bool {
		c := p.counters(w.ConnectionID)
		if !c.holds() {
			t.Fatalf("the law does not hold: %+v", c)
		}
		return c.Pending == 0
	})
	after := [2]counters{p.counters(w.ConnectionID), p.counters(second)}
	for i, a := range after {
		if a.Received < before[i].Received || a.Failed > 0 || !a.holds() {
			t.Errorf("before the backup %+v, after the restore %+v", before[i], a)
		}
	}
	if c := after[1]; c.Pending != c.Received {
		t.Errorf("what waited for the connection that is down: %+v", c)
	}
	goOn(t, w, p, second, accepted)
}

// goOn lets the second connection in, so that all of its backlog arrives, and
// posts more.
func goOn(t *testing.T, w *demo.World, p *process, second string, accepted demo.Totals) {
	t.Helper()
	valid := p.connection(w.ConnectionID).Configuration
	waiting, twice := p.counters(second), w.Totals().Twice
	certificate, err := w.AWS.CreateKeysAndCertificate(true)
	if err != nil {
		t.Fatal(err)
	}
	put(t, p, second, func(c map[string]any) {
		configuration := c["configuration"].(map[string]any)
		configuration["certificate"], configuration["privateKey"] = certificate.CertificatePEM, certificate.PrivateKeyPEM
		configuration["certificateId"] = certificate.ARN
	})
	p.opened(second)
	wait(t, "the backlog to be delivered", func() bool {
		c := p.counters(second)
		return c.holds() && c.Delivered == waiting.Received
	})
	// Each of the backlog has arrived by the first connection before.
	wait(t, "the backlog to arrive", func() bool { return w.Totals().Twice >= twice+waiting.Received })
	if valid["privateKey"] != "*****" {
		t.Error("a secret is shown, or was lost")
	}
	received := p.counters(w.ConnectionID).Received
	if err := w.Post(t.Context(), demo.Load{Rate: 300, Count: 100}); err != nil {
		t.Fatal(err)
	}
	wait(t, "new reports to be delivered", func() bool {
		c := p.counters(w.ConnectionID)
		return c.holds() && c.Delivered == received+100
	})
	if got := w.Totals(); got.Accepted != accepted.Accepted+100 || got.Missing != 0 {
		t.Errorf("totals = %+v", got)
	}
	p.terminate()
}

// noSecrets looks for what must not be in a backup.
func noSecrets(t *testing.T, p *process, file string) {
	t.Helper()
	archive := []byte(read(t, file))
	for _, name := range []string{"secret.key", "admin.token"} {
		if bytes.Contains(archive, bytes.TrimSpace([]byte(read(t, filepath.Join(p.data, name))))) {
			t.Errorf("%s is in the backup", name)
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// wrongKey restores without a key, which works, and starts, which does not;
// with another key nothing is restored.
func wrongKey(t *testing.T, p *process, file string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "new")
	other := filepath.Join(t.TempDir(), "other.key")
	if err := os.WriteFile(other, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	exit, out := sluiceRun(t, "restore", "--data", data, "--key-file", other, file)
	if _, err := os.Stat(data); exit != 1 || !strings.Contains(out, "not the one that the secrets") || err == nil {
		t.Errorf("with another key: exit %d, %v\n%s", exit, err, out)
	}
	if exit, out = sluiceRun(t, "restore", "--data", data, file); exit != 0 || !strings.Contains(out, "is not in the backup. Put secret.key into") {
		t.Errorf("without a key: exit %d\n%s", exit, out)
	}
	if exit, out = sluiceRun(t, "serve", "--data", data, "--listen", "127.0.0.1:0"); exit != 1 || !strings.Contains(out, "The key that the secrets were sealed with is not there") {
		t.Errorf("started without a key: exit %d\n%s", exit, out)
	}
	if err := os.WriteFile(filepath.Join(data, "secret.key"), []byte(read(t, filepath.Join(p.data, "secret.key"))), 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, data, freePort(t)).terminate()
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRestoreThatIsKilled kills a restore in its middle: the directory is not
// taken for a good one, and the next restore begins anew.
func TestRestoreThatIsKilled(t *testing.T) {
	w, p := opened(t, 10, nil)
	if err := w.Post(t.Context(), demo.Load{Rate: 1000, Count: 500}); err != nil {
		t.Fatal(err)
	}
	settled(t, w, false)
	file := filepath.Join(t.TempDir(), "backup.tar")
	if exit, out := sluiceRun(t, "backup", "--url", p.api.Base, "--data", p.data, "--out", file); exit != 0 {
		t.Fatalf("backup: exit %d\n%s", exit, out)
	}
	key := filepath.Join(p.data, "secret.key")
	p.terminate()
	for caught := false; !caught; {
		data := filepath.Join(t.TempDir(), "new")
		cmd := exec.Command(binary, "restore", "--data", data, "--key-file", key, file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait(t, "the restore to begin", func() bool {
			_, err := os.Stat(filepath.Join(data, "journal"))
			return err == nil
		})
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		_, err := os.Stat(filepath.Join(data, "restoring"))
		if caught = err == nil; !caught {
			continue // it was faster
		}
		if exit, out := sluiceRun(t, "serve", "--data", data, "--listen", "127.0.0.1:0"); exit != 1 || !strings.Contains(out, "was cut short") {
			t.Fatalf("serve: exit %d\n%s", exit, out)
		}
		if exit, out := sluiceRun(t, "restore", "--data", data, "--key-file", key, file); exit != 0 {
			t.Fatalf("restore again: exit %d\n%s", exit, out)
		}
		p = serve(t, data, p.listen)
		if c := p.counters(w.ConnectionID); c.Received != 500 || !c.holds() {
			t.Errorf("counters = %+v", c)
		}
		p.terminate()
	}
}
