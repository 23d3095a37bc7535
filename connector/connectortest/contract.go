package connectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"sluice"
)

func describes(t *testing.T, f *fixture) {
	info := f.Connector.Info()
	if info.ID != info.ProducerID+"-"+info.ModuleID || info.Name == "" || info.Version == "" || info.Description == "" {
		t.Errorf("it says too little: %+v", info)
	}
	var schema struct {
		Schema               string `json:"$schema"`
		AdditionalProperties *bool
		Properties           map[string]struct{ Type, Title, Description string }
		Required             []string
	}
	if err := json.Unmarshal(info.Schema, &schema); err != nil {
		t.Fatal(err)
	}
	if schema.Schema != "http://json-schema.org/draft-04/schema#" || schema.AdditionalProperties == nil || *schema.AdditionalProperties {
		t.Error("the schema must be of draft-04 and take no other properties")
	}
	for name, p := range schema.Properties {
		if p.Title == "" || p.Description == "" || p.Type == "" {
			t.Errorf("property %s lacks a type, title or description", name)
		}
	}
	for _, name := range schema.Required {
		if _, ok := schema.Properties[name]; !ok {
			t.Errorf("property %s is required and not declared", name)
		}
	}
}

func accepts(t *testing.T, f *fixture) {
	if _, problems := f.Connector.Check(f.Configuration); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	// What the schema refuses must not break Check.
	for _, odd := range []string{`{}`, `null`, `[]`, `"x"`, `{"a":1}`} {
		f.Connector.Check(json.RawMessage(odd))
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(f.Configuration, &m); err != nil {
		t.Fatal(err)
	}
	for name := range m {
		for _, odd := range []string{`null`, `17`, `""`, `"\u0000"`, `{}`, `[1]`} {
			changed := make(map[string]json.RawMessage, len(m))
			for k, v := range m {
				changed[k] = v
			}
			changed[name] = json.RawMessage(odd)
			raw, err := json.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			warnings, problems := f.Connector.Check(raw)
			for _, p := range append(warnings, problems...) {
				f.keepsSecrets(t, p.Message)
			}
		}
	}
}

// keepsSecrets fails where a text shows a secret.
func (f *fixture) keepsSecrets(t *testing.T, text string) {
	t.Helper()
	for _, s := range f.Secrets {
		if strings.Contains(text, s) {
			t.Errorf("a secret is shown: %s", strings.ReplaceAll(text, s, "<secret>"))
		}
	}
}

func acknowledges(t *testing.T, f *fixture) {
	s := f.open(t)
	m := Uplink("20635F0108000496", 1)
	if err := s.Handle(within(t), m); err != nil {
		t.Fatal(err)
	}
	await(t, "the message arrives", func() bool { return len(f.Received()) > 0 })
	got := f.Received()[0]
	if got.DevEUI != m.DevEUI || !bytes.Equal(got.Payload, m.Document) || got.ID != "" && got.ID != m.ID {
		t.Errorf("the cloud got %+v, %s", got, got.Payload)
	}
}

func sendsPayload(t *testing.T, f *fixture) {
	s := f.open(t)
	m := Uplink("20635F0108000496", 1)
	m.Payload = []byte(`{"flat":true}`)
	if err := s.Handle(within(t), m); err != nil {
		t.Fatal(err)
	}
	await(t, "the message arrives", func() bool { return len(f.Received()) > 0 })
	if got := f.Received()[0]; got.DevEUI != m.DevEUI || !bytes.Equal(got.Payload, m.Payload) {
		t.Errorf("the cloud got %s for %s", got.Payload, got.DevEUI)
	}
}

// keepsOrder sends for several devices at once, for each one after another, as
// the connection room does.
func keepsOrder(t *testing.T, f *fixture) {
	const devices, each = 8, 20
	s := f.open(t)
	ctx := within(t)
	var wg sync.WaitGroup
	for d := range devices {
		wg.Go(func() {
			for n := range each {
				if err := s.Handle(ctx, Uplink(fmt.Sprintf("%016X", d), n)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	await(t, "all messages arrive", func() bool { return len(f.Received()) >= devices*each })
	seen := map[string][][]byte{}
	for _, r := range f.Received() {
		seen[r.DevEUI] = append(seen[r.DevEUI], r.Payload)
	}
	for d := range devices {
		devEUI := fmt.Sprintf("%016X", d)
		for n, payload := range seen[devEUI] {
			if !bytes.Equal(payload, Uplink(devEUI, n).Document) {
				t.Fatalf("%s: message %d is %s", devEUI, n, payload)
			}
		}
		if len(seen[devEUI]) != each {
			t.Errorf("%s: %d messages", devEUI, len(seen[devEUI]))
		}
	}
}

func refusesTooLarge(t *testing.T, f *fixture) {
	if f.TooLarge == 0 {
		t.Skip("this cloud has no limit")
	}
	s := f.open(t)
	m := Uplink("20635F0108000496", 1)
	m.Payload = bytes.Repeat([]byte("x"), f.TooLarge)
	if fail := failure(t, "too large", s.Handle(within(t), m)); fail.Verdict != sluice.Permanent || fail.Reason != sluice.ReasonTooLarge {
		t.Errorf("too large: %+v", fail)
	}
	if err := s.Handle(within(t), Uplink("20635F0108000496", 2)); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func endsWithContext(t *testing.T, f *fixture) {
	s := f.open(t)
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	// It may be delivered all the same; a context that has ended is no fault.
	if err := s.Handle(ctx, Uplink("20635F0108000496", 1)); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Handle: %v", err)
	}
	if err := s.Handle(within(t), Uplink("20635F0108000496", 2)); err != nil {
		t.Errorf("after it: %v", err)
	}
	if session, err := f.dial(t, f.Configuration, 1).Open(ctx, 0, func() {}); err == nil {
		_ = session.Close(within(t))
		t.Error("Open succeeded with a context that had ended")
	}
}

func tellsOfLoss(t *testing.T, f *fixture) {
	d := f.dial(t, f.Configuration, 0)
	s := open(t, d, 0)
	select {
	case <-s.Done():
		t.Fatal("Done is closed from the start")
	default:
	}
	if s.Err() != nil {
		t.Fatalf("Err of an open session: %v", s.Err())
	}
	if f.Linkless {
		return // there is nothing to be lost
	}
	f.Cut()
	select {
	case <-s.Done():
	case <-within(t).Done():
		t.Fatal("the loss went unnoticed")
	}
	failure(t, "Err", s.Err())
	fail := failure(t, "Handle", s.Handle(within(t), Uplink("20635F0108000496", 1)))
	if fail.Verdict != sluice.NotConnected {
		t.Errorf("Handle after the loss: verdict %d (%v), want NotConnected", fail.Verdict, fail)
	}
	if err := s.Close(within(t)); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := open(t, d, 0).Handle(within(t), Uplink("20635F0108000496", 2)); err != nil {
		t.Errorf("on a new session: %v", err)
	}
}

func closesInOrder(t *testing.T, f *fixture) {
	const n = 10
	s := f.open(t)
	ctx := within(t)
	results := make(chan error, n)
	for i := range n {
		go func() { results <- s.Handle(ctx, Uplink(fmt.Sprintf("%016X", i), 1)) }()
	}
	if err := <-results; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
	delivered := 1
	for range n - 1 {
		err := <-results
		if err == nil {
			delivered++
			continue
		}
		if v, _ := sluice.VerdictOf(err); v != sluice.NotConnected {
			t.Errorf("under way at Close: %v, want success or NotConnected", err)
		}
	}
	await(t, "what was acknowledged is there", func() bool { return len(f.Received()) >= delivered })
	select {
	case <-s.Done():
	default:
		t.Error("Done is not closed after Close")
	}
	if s.Err() != nil {
		t.Errorf("Err after Close: %v", s.Err())
	}
	if v, _ := sluice.VerdictOf(s.Handle(ctx, Uplink("20635F0108000496", 1))); v != sluice.NotConnected {
		t.Errorf("Handle after Close: verdict %d", v)
	}
	if err := s.Close(ctx); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func opensSideBySide(t *testing.T, f *fixture) {
	ids := map[string]bool{}
	var sessions []sluice.Session
	for generation := range 2 {
		d := f.dial(t, f.Configuration, generation)
		if d.Size() < 2 {
			t.Fatalf("the pool has %d sessions, want a configuration with two or more", d.Size())
		}
		for lane := range 2 {
			s := open(t, d, lane)
			ids[s.ID()] = true
			sessions = append(sessions, s)
		}
	}
	if len(ids) != len(sessions) {
		t.Errorf("the sessions are not told apart: %v", ids)
	}
	for i, s := range sessions {
		if err := s.Handle(within(t), Uplink(fmt.Sprintf("%016X", i), 1)); err != nil {
			t.Errorf("session %s: %v", s.ID(), err)
		}
	}
}

func tellsRefusal(t *testing.T, f *fixture) {
	if f.Refused == nil {
		t.Skip("this cloud refuses nobody")
	}
	if _, problems := f.Connector.Check(f.Refused); len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	s, err := f.dial(t, f.Refused, 0).Open(within(t), 0, func() {})
	if err == nil {
		_ = s.Close(within(t))
		t.Fatal("it was not refused")
	}
	fail := failure(t, "Open", err)
	switch fail.Reason {
	case sluice.ReasonAuthentication, sluice.ReasonNotAuthorized, sluice.ReasonTLS:
	default:
		t.Errorf("Open: reason %s (%v)", fail.Reason, fail)
	}
	if fail.Hint == "" {
		t.Error("Open: no hint on what to do")
	}
	f.keepsSecrets(t, fail.Error()+fail.Hint)
}

// command is a command with a number.
func command(devEUI string, n int) []byte {
	return fmt.Appendf(nil, `{"DevEUI_downlink":{"DevEUI":%q,"FPort":1,"payload_hex":"%04X"}}`, devEUI, n)
}

// subscribe opens a session that takes commands.
func (f *fixture) subscribe(t *testing.T, take func(ctx context.Context, c sluice.Command) error) sluice.Session {
	t.Helper()
	if f.Send == nil {
		t.Skip("this cloud sends no commands")
	}
	s := f.open(t)
	sub, ok := s.(sluice.Subscriber)
	if !ok {
		t.Fatal("the session is no Subscriber")
	}
	if err := sub.Subscribe(within(t), take); err != nil {
		t.Fatal(err)
	}
	return s
}

func takesCommands(t *testing.T, f *fixture) {
	const n = 20
	var mu sync.Mutex
	var got []sluice.Command
	s := f.subscribe(t, func(_ context.Context, c sluice.Command) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, c)
		return nil
	})
	for i := range n {
		if err := f.Send("20635F0108000496", command("20635F0108000496", i)); err != nil {
			t.Fatal(err)
		}
		// Uplinks go their way besides.
		if err := s.Handle(within(t), Uplink("20635F0108000496", i)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all commands arrive", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) >= n
	})
	if err := s.Close(within(t)); err != nil {
		t.Error(err)
	}
	for i, c := range got {
		if !bytes.Equal(c.Document, command("20635F0108000496", i)) || c.Source == "" || c.DevEUI != "" && c.DevEUI != "20635F0108000496" {
			t.Errorf("command %d is %+v, %s", i, c, c.Document)
		}
	}
}

func offersAgain(t *testing.T, f *fixture) {
	offers, taken := 0, make(chan sluice.Command, 10)
	s := f.subscribe(t, func(_ context.Context, c sluice.Command) error {
		if offers++; offers < 3 {
			return errors.New("not yet")
		}
		taken <- c
		return nil
	})
	if err := f.Send("20635F0108000496", command("20635F0108000496", 1)); err != nil {
		t.Fatal(err)
	}
	// A command that waits holds up no uplinks.
	if err := s.Handle(within(t), Uplink("20635F0108000496", 1)); err != nil {
		t.Error(err)
	}
	select {
	case c := <-taken:
		if !bytes.Equal(c.Document, command("20635F0108000496", 1)) {
			t.Errorf("taken: %s", c.Document)
		}
	case <-s.Done():
		t.Fatal("the session ended; this suite wants it offered again on the same session")
	case <-within(t).Done():
		t.Fatal("the command was not offered again")
	}
}

// collect subscribes a session of a new Dialer, as a restarted process does,
// and returns the session and what it has taken so far.
func (f *fixture) collect(t *testing.T, generation int) (sluice.Session, func() []string) {
	t.Helper()
	if f.Send == nil || !f.Keeps {
		t.Skip("this cloud keeps no commands")
	}
	var mu sync.Mutex
	var got []string
	s := open(t, f.dial(t, f.Configuration, generation), 0)
	err := s.(sluice.Subscriber).Subscribe(within(t), func(_ context.Context, c sluice.Command) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(c.Document))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), got...)
	}
}

func (f *fixture) send(t *testing.T, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if err := f.Send("20635F0108000496", command("20635F0108000496", n)); err != nil {
			t.Fatal(err)
		}
	}
}

// arrives waits for the last of some commands and wants them all, each once.
func arrives(t *testing.T, taken func() []string, numbers ...int) {
	t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, string(command("20635F0108000496", n)))
	}
	await(t, "the commands arrive", func() bool { return len(taken()) >= len(want) })
	if got := taken(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("taken: %v, want %v", got, want)
	}
}

// takesKept closes in one generation and opens in the other, which is how a
// process may find what the one before it has left.
func takesKept(t *testing.T, f *fixture) {
	s, taken := f.collect(t, 1)
	f.send(t, 0)
	arrives(t, taken, 0)
	if err := s.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	f.send(t, 1, 2, 3)
	_, taken = f.collect(t, 0)
	f.send(t, 4)
	arrives(t, taken, 1, 2, 3, 4)
}

func forgets(t *testing.T, f *fixture) {
	s, _ := f.collect(t, 0)
	ender, ok := s.(sluice.Ender)
	if !ok {
		t.Fatal("the session is no Ender, but the cloud keeps commands for it")
	}
	if err := ender.End(within(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done is not closed after End")
	}
	f.send(t, 1)
	_, taken := f.collect(t, 0)
	f.send(t, 2)
	arrives(t, taken, 2)
}
