package datadir_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice"
	"sluice/internal/datadir"
)

// holdEnv names the directory that a child process of the tests is to hold.
const holdEnv = "SLUICE_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		hold(dir)
	}
	os.Exit(m.Run())
}

// hold opens the directory, says so, and keeps it until its input ends.
func hold(dir string) {
	if _, err := datadir.Open(dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	os.Exit(0)
}

func open(t *testing.T, path string) *datadir.Dir {
	t.Helper()
	d, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// refused opens a directory, which must fail, and returns the error.
func refused(t *testing.T, path string, code sluice.Code) *sluice.Error {
	t.Helper()
	d, err := datadir.Open(path)
	if err == nil {
		_ = d.Close()
		t.Fatal("the directory was opened")
	}
	e, ok := errors.AsType[*sluice.Error](err)
	if !ok || e.Code != code || e.Hint == "" {
		t.Fatalf("err = %#v, want %s with a hint", err, code)
	}
	return e
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestOpenMakesTheDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d := open(t, path)
	if !d.Fresh() || d.Path() != path || mode(t, path) != 0o700 {
		t.Errorf("fresh %v, path %s, mode %o", d.Fresh(), d.Path(), mode(t, path))
	}
	if !regexp.MustCompile(`^[a-z0-9]{8}$`).MatchString(d.Instance()) {
		t.Errorf("instance = %q", d.Instance())
	}
	instance := d.Instance()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	d = open(t, path)
	if d.Fresh() || d.Instance() != instance {
		t.Errorf("opened again: fresh %v, instance %q, was %q", d.Fresh(), d.Instance(), instance)
	}
	if text, _ := os.ReadFile(filepath.Join(path, "format")); string(text) != "1\n" {
		t.Errorf("format = %q", text)
	}
	for _, p := range []string{d.JournalDir(), d.KeyFile(), d.TokenFile()} {
		if filepath.Dir(p) != path {
			t.Errorf("%s is not in the directory", p)
		}
	}
}

func TestOpenClosesAnEmptyDirectory(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if m := mode(t, path); m != 0o700 {
		t.Errorf("mode = %o", m)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	e := refused(t, path, sluice.CodeConflict)
	want := fmt.Sprintf("the data directory %s is in use by another Sluice (pid %d)", path, os.Getpid())
	if e.Message != want {
		t.Errorf("message = %q, want %q", e.Message, want)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

// TestLockOfAnotherProcess: the lock holds between processes, names the
// holder, and goes when the holder is killed.
func TestLockOfAnotherProcess(t *testing.T) {
	path := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), holdEnv+"="+path)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "held\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	e := refused(t, path, sluice.CodeConflict)
	if want := fmt.Sprintf("(pid %d)", child.Process.Pid); !strings.Contains(e.Message, want) {
		t.Errorf("message = %q, want %q in it", e.Message, want)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	open(t, path)
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	path := t.TempDir()
	write(t, filepath.Join(path, "thesis.txt"), "hello", 0o600)
	e := refused(t, path, sluice.CodeConflict)
	if !strings.Contains(e.Message, `"thesis.txt"`) {
		t.Errorf("message = %q", e.Message)
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v: something was written", len(entries), err)
	}
}

func TestFileInsteadOfDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "", 0o600)
	refused(t, path, sluice.CodeInternal)
	refused(t, filepath.Join(path, "below"), sluice.CodeInternal)
}

// TestOwnLeftovers: what an Open that was cut short leaves, and a key that was
// put there before the first start, are no foreign data.
func TestOwnLeftovers(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{"lock", "secret.key", ".sluice-123", "lost+found"} {
		write(t, filepath.Join(path, name), "", 0o600)
	}
	if d := open(t, path); !d.Fresh() {
		t.Error("the directory is not fresh")
	}
}

func TestFormats(t *testing.T) {
	for text, test := range map[string]struct {
		code    sluice.Code
		message string
	}{
		"2\n":  {sluice.CodeConflict, "has format 2, and this Sluice knows formats up to 1"},
		"":     {sluice.CodeInvalid, `has a file "format" that is not a number`},
		"one":  {sluice.CodeInvalid, `has a file "format" that is not a number`},
		"-1\n": {sluice.CodeInvalid, `has a file "format" that is not a number`},
	} {
		path := t.TempDir()
		write(t, filepath.Join(path, "format"), text, 0o600)
		if e := refused(t, path, test.code); !strings.Contains(e.Message, test.message) {
			t.Errorf("%q: message = %q", text, e.Message)
		}
	}
}

func TestOddInstance(t *testing.T) {
	path := t.TempDir()
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "short", "UPPER123", "abcd-123"} {
		write(t, filepath.Join(path, "instance"), text, 0o600)
		refused(t, path, sluice.CodeInvalid)
	}
}

func TestAdminToken(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	token, created, err := d.AdminToken()
	if err != nil || !created || len(token) != 43 {
		t.Fatalf("token of %d characters, created %v, %v", len(token), created, err)
	}
	if m := mode(t, d.TokenFile()); m != 0o600 {
		t.Errorf("mode = %o", m)
	}
	again, created, err := d.AdminToken()
	if err != nil || created || again != token {
		t.Errorf("again: same %v, created %v, %v", again == token, created, err)
	}
	if err := os.Chmod(d.TokenFile(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.AdminToken(); err != nil || mode(t, d.TokenFile()) != 0o600 {
		t.Errorf("a token that others can read: %v, mode %o", err, mode(t, d.TokenFile()))
	}
	for _, text := range []string{"", "\n", "short", "two words that are long enough"} {
		write(t, d.TokenFile(), text, 0o600)
		if _, _, err := d.AdminToken(); err == nil {
			t.Errorf("%q was taken for a token", text)
		} else if text != "" && strings.TrimSpace(text) != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the file: %v", err)
		}
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"one", "two"} {
		if err := datadir.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text || mode(t, path) != 0o640 {
			t.Errorf("file = %q, mode %o", got, mode(t, path))
		}
	}
	if err := datadir.WriteFile(filepath.Join(dir, "none", "f"), nil, 0o600); err == nil {
		t.Error("written into a directory that does not exist")
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := datadir.WriteFile(filepath.Join(dir, "d"), nil, 0o600); err == nil {
		t.Error("written in place of a directory")
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 {
		t.Errorf("%d entries: something is left behind", len(entries))
	}
}
