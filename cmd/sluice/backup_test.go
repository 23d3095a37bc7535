package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A backup that does not come whole leaves no file, and the exit code tells.
func TestBackupThatDoesNotComeWhole(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter) {}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/backup" || r.Header.Get("Authorization") != "Bearer the-token" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		answer(w)
	}))
	defer server.Close()
	for want, a := range map[string]func(w http.ResponseWriter){
		"the backup has not come whole: its end is missing": func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 5000)) },
		"the backup was cut off": func(w http.ResponseWriter) {
			_, _ = w.Write(make([]byte, 1<<20))
			panic(http.ErrAbortHandler)
		},
		"A backup is being made already.\n→ Later.": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"code":"com-4009","message":"A backup is being made already.","hint":"Later."}`))
		},
		"the answer is 404 Not Found": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) },
	} {
		answer = a
		dir := t.TempDir()
		for _, out := range []string{filepath.Join(dir, "file"), "-"} {
			exit, _, errOut := command(t, "backup", "--url", server.URL, "--token-file", token, "--out", out)
			if exit != 1 || !strings.Contains(errOut, want) {
				t.Errorf("%s: exit %d, %s", want, exit, errOut)
			}
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v", want, left)
		}
	}
	server.Close()
	if exit, _, errOut := command(t, "backup", "--url", server.URL, "--token-file", token, "--out", "-"); exit != 1 || !strings.Contains(errOut, "no Sluice answers at") {
		t.Errorf("nobody there: exit %d, %s", exit, errOut)
	}
	if exit, _, errOut := command(t, "backup", "--url", server.URL, "--token-file", token+".not", "--out", "-"); exit != 1 || !strings.Contains(errOut, "the administrator token cannot be read") {
		t.Errorf("without a token: exit %d, %s", exit, errOut)
	}
}

func TestRestoreOfWhatIsNoBackup(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	exit, _, errOut := command(t, "restore", "--data", data, file)
	if exit != 1 || !strings.Contains(errOut, "is not a backup of Sluice\n→") {
		t.Errorf("exit %d, %s", exit, errOut)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("something was made")
	}
}
