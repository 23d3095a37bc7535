package networktest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

func answersWhenHeld(t *testing.T, w *world) {
	w.posted(t)
	entered, release := make(chan struct{}), make(chan struct{})
	w.handle = func(ctx context.Context, _ *sluice.Message) error {
		close(entered)
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	answered := make(chan *http.Response, 1)
	failed := make(chan error, 1)
	request := w.Report(1, w.server.URL)
	go func() {
		response, err := w.server.Client().Do(request)
		if err != nil {
			failed <- err
			return
		}
		_ = response.Body.Close()
		answered <- response
	}()
	await(t, entered, "the handler")
	select {
	case <-answered:
		t.Fatal("answered before the report was held")
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	close(release)
	select {
	case response := <-answered:
		if response.StatusCode != http.StatusOK {
			t.Fatalf("status %d, want 200", response.StatusCode)
		}
	case err := <-failed:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	if n := len(w.taken()); n != 1 {
		t.Fatalf("handled %d times", n)
	}
}

func answersUnavailable(t *testing.T, w *world) {
	w.posted(t)
	for name, handle := range map[string]func(context.Context, *sluice.Message) error{
		"error":   func(context.Context, *sluice.Message) error { return errors.New("the disk is full") },
		"blocked": func(ctx context.Context, _ *sluice.Message) error { <-ctx.Done(); return ctx.Err() },
	} {
		w.mu.Lock()
		w.handle = handle
		w.mu.Unlock()
		response, body := w.do(t, w.Report(1, w.server.URL))
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, Retry-After %q; want 503 with one", name, response.StatusCode, response.Header.Get("Retry-After"))
		}
		checkError(t, body)
	}
}

// checkError checks that a body is an error for programs and users.
func checkError(t *testing.T, body string) {
	t.Helper()
	var e struct{ Code, Message string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || !strings.HasPrefix(e.Code, "com-") || e.Message == "" {
		t.Errorf("the body is no error with code and message: %s", body)
	}
}

func identity(t *testing.T, w *world) {
	w.posted(t)
	begin := time.Now()
	for n := range 3 {
		if response, body := w.do(t, w.Report(n, w.server.URL)); response.StatusCode != http.StatusOK {
			t.Fatalf("status %d: %s", response.StatusCode, body)
		}
	}
	last := ""
	for _, m := range w.taken() {
		if m.Network != networkID || m.Kind == "" || m.DevEUI == "" || m.DevEUI != strings.ToUpper(m.DevEUI) {
			t.Errorf("the identity is not complete: %+v", m)
		}
		if m.IsCommand() || m.Connection != "" || m.Number != 0 || m.Credentials != nil || m.Payload != nil {
			t.Errorf("a network does not fill this: %+v", m)
		}
		if len(m.ID) != 26 || m.ID <= last {
			t.Errorf("the id %q does not rise from %q", m.ID, last)
		}
		last = m.ID
		if m.Received.Before(begin.Add(-time.Second)) || m.Received.After(time.Now().Add(time.Second)) {
			t.Errorf("received at %s", m.Received)
		}
		var document map[string]json.RawMessage
		if err := json.Unmarshal(m.Document, &document); err != nil || len(document) != 1 || document[string(m.Kind)] == nil {
			t.Errorf("the document has not one root %s: %s", m.Kind, m.Document)
		}
	}
}

func fingerprints(t *testing.T, w *world) {
	w.posted(t)
	for _, n := range []int{1, 1, 2, 1} {
		w.do(t, w.Report(n, w.server.URL))
	}
	got := w.taken()
	if len(got) != 4 {
		t.Fatalf("%d reports were handled, want 4", len(got))
	}
	a, b := got[0].Fingerprint, got[2].Fingerprint
	if a == "" || a == b || got[1].Fingerprint != a || got[3].Fingerprint != a {
		t.Errorf("fingerprints %q %q %q %q: want the third to differ", a, got[1].Fingerprint, b, got[3].Fingerprint)
	}
	if got[0].ID == got[1].ID {
		t.Error("two copies have one id")
	}
}

func refusesBad(t *testing.T, w *world) {
	w.posted(t)
	if w.Bad == nil {
		t.Skip("this kind refuses nothing")
	}
	r, status := w.Bad(w.server.URL)
	response, body := w.do(t, r)
	if response.StatusCode != status {
		t.Errorf("status %d, want %d", response.StatusCode, status)
	}
	checkError(t, body)
	if len(w.taken()) > 0 {
		t.Error("it was handled")
	}
	events := w.events.All()
	if len(events) != 1 || events[0].Type != sluice.EventUplinkRefused || events[0].Network != networkID || events[0].Detail == "" {
		t.Errorf("want one event of the refusal, got %+v", events)
	}
}

func onlyPost(t *testing.T, w *world) {
	w.posted(t)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		r := w.Report(1, w.server.URL)
		r.Method = method
		response, _ := w.do(t, r)
		if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != http.MethodPost {
			t.Errorf("%s: status %d, Allow %q", method, response.StatusCode, response.Header.Get("Allow"))
		}
	}
	if len(w.taken()) > 0 {
		t.Error("it was handled")
	}
}

func delivers(t *testing.T, w *world) {
	for n := range 3 {
		if err := w.network.Handle(t.Context(), w.Command(n)); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.Delivered(); n != 3 {
		t.Errorf("%d commands were delivered, want 3", n)
	}
}

func rejection(t *testing.T, w *world) {
	w.Refuse(true)
	err := w.network.Handle(t.Context(), w.Command(1))
	f, ok := errors.AsType[*sluice.Failure](err)
	if !ok || f.Verdict != sluice.Permanent || f.Reason != sluice.ReasonRejected || f.Status == 0 || f.Message == "" {
		t.Errorf("want a permanent failure with status and text, got %#v", err)
	}
	if w.Delivered() != 0 {
		t.Error("it was delivered")
	}
	w.Refuse(false)
	if err := w.network.Handle(t.Context(), w.Command(1)); err != nil {
		t.Errorf("after the refusals: %v", err)
	}
}

func endsWithContext(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.network.Handle(ctx, w.Command(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("want the context's error, got %v", err)
	}
}

func closeWaits(t *testing.T, w *world) {
	w.posted(t)
	entered, release, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var first sync.Once
	w.handle = func(context.Context, *sluice.Message) error {
		first.Do(func() {
			close(entered)
			<-release
		})
		return nil
	}
	status := make(chan int, 1)
	request := w.Report(1, w.server.URL)
	go func() {
		response, err := w.server.Client().Do(request)
		if err != nil {
			status <- 0
			return
		}
		_ = response.Body.Close()
		status <- response.StatusCode
	}()
	await(t, entered, "the handler")
	go func() {
		defer close(closed)
		w.network.Close()
	}()
	// Once it is closing, it takes no more commands: that also shows that
	// Close began.
	for deadline := time.Now().Add(patience); ; {
		err := w.network.Handle(t.Context(), w.Command(1))
		if v, _ := sluice.VerdictOf(err); err != nil && v == sluice.NotConnected {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("commands are taken while it closes")
		}
	}
	select {
	case <-closed:
		t.Error("Close did not wait for a report under way")
	default:
	}
	close(release)
	await(t, closed, "Close")
	if s := <-status; s != http.StatusOK {
		t.Errorf("the report under way: status %d, want 200", s)
	}
	// A door that is replaced closes while reports still find it: they are
	// taken as ever.
	if response, body := w.do(t, w.Report(2, w.server.URL)); response.StatusCode != http.StatusOK {
		t.Errorf("a report to a closed door: status %d, want 200: %s", response.StatusCode, body)
	}
	if got := w.taken(); len(got) != 2 {
		t.Errorf("%d reports were taken, want 2", len(got))
	}
}

func await(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
}
