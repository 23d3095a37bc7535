package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"sluice"
	"sluice/internal/natsd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is one that holds, and notes it.
type journal struct {
	calls []string
	end   context.CancelCauseFunc
}

func (j *journal) Hold(ctx context.Context) (context.Context, func(), error) {
	j.calls = append(j.calls, "hold")
	ctx, j.end = context.WithCancelCause(ctx)
	return ctx, func() { j.calls = append(j.calls, "release"); j.end(nil) }, nil
}

func (j *journal) HoldBooks() func() {
	j.calls = append(j.calls, "hold books")
	return func() { j.calls = append(j.calls, "release books") }
}

func server(t *testing.T) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	s, err := natsd.Start(t.Context(), natsd.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func stream(t *testing.T, js jetstream.JetStream, c jetstream.StreamConfig, n, size int) jetstream.Stream {
	t.Helper()
	c.Storage, c.Subjects = jetstream.FileStorage, []string{strings.ToLower(c.Name) + ".*"}
	s, err := js.CreateStream(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		publish(t, js, fmt.Sprintf("%s.%d", strings.ToLower(c.Name), i), size)
	}
	return s
}

func publish(t *testing.T, js jetstream.JetStream, subject string, size int) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data) // what cannot be compressed
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{"A": {"b"}}}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func source(t *testing.T, nc *nats.Conn, j Journal) Source {
	return Source{
		Conn: nc, Journal: j, Dir: t.TempDir(), Version: "1.2", Instance: "abcd1234", KeyID: "0123",
		Summary: func() Summary { return Summary{Connections: []Named{{"1", "one"}}, Flows: 2, Networks: 3} },
		Clock:   func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC) },
	}
}

// made makes a backup of three streams in a file.
func made(t *testing.T) (name string, js jetstream.JetStream) {
	t.Helper()
	nc, js := server(t)
	s := stream(t, js, jetstream.StreamConfig{Name: entries}, 300, 4000)
	stream(t, js, jetstream.StreamConfig{Name: positions, MaxMsgsPerSubject: 1}, 5, 10)
	stream(t, js, jetstream.StreamConfig{Name: "EMPTY"}, 0, 0)
	for _, seq := range []uint64{1, 7, 300} { // gaps, at the ends too
		if err := s.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, js, "books.3", 10)
	j := &journal{}
	var out bytes.Buffer
	o := source(t, nc, j)
	if err := Write(t.Context(), &out, o); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"hold", "hold books", "release books", "release"}, j.calls); d != "" {
		t.Errorf("what was held (-want +got):\n%s", d)
	}
	if left, _ := os.ReadDir(o.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	name = filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name, js
}

// messages are those of a stream, with all that they have.
func messages(t *testing.T, js jetstream.JetStream, name string) (all []jetstream.RawStreamMsg) {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		if m, err := s.GetMsg(t.Context(), seq); err == nil {
			all = append(all, *m)
		}
	}
	return all
}

func TestWhatIsRestoredIsWhatWasThere(t *testing.T) {
	name, before := made(t)
	if err := AddKey(name, []byte("the key\n")); err != nil {
		t.Fatal(err)
	}
	a, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if string(a.Key) != "the key\n" || a.Instance != "abcd1234" || a.KeyID != "0123" || a.Flows != 2 || len(a.Connections) != 1 {
		t.Errorf("archive = %+v", a)
	}
	if first, last := a.Streams[0].Name, a.Streams[len(a.Streams)-1].Name; first != positions || last != entries || len(a.Streams) != 3 {
		t.Errorf("the order is %s to %s", first, last)
	}
	nc, after := server(t)
	if err := a.Restore(t.Context(), nc); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{positions, "EMPTY", entries} {
		want, got := messages(t, before, s), messages(t, after, s)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s differs: %.300s", s, d)
		}
		if s == entries && len(got) != 297 {
			t.Errorf("%d messages", len(got))
		}
	}
	// A number that was given is not given again, although its message is gone.
	ack, err := after.Publish(t.Context(), "sluice.new", nil)
	if err != nil || ack.Sequence != 301 {
		t.Errorf("the next is %+v, %v", ack, err)
	}
}

// refused wants an archive of these bytes to be refused with a sentence.
func refused(t *testing.T, content []byte, want string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := Open(name)
	if err == nil {
		_ = a.Close()
		t.Fatalf("it was taken: want %q", want)
	}
	if e, ok := errors.AsType[*sluice.Error](err); !ok || !strings.Contains(e.Message, want) || e.Hint == "" {
		t.Fatalf("%v, want %q", err, want)
	}
}

func TestWhatIsNotABackup(t *testing.T) {
	name, _ := made(t)
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, nil, "is not a backup of Sluice")
	refused(t, bytes.Repeat([]byte("text "), 1000), "is not a backup of Sluice")
	refused(t, content[:300], "is not a backup of Sluice")
	for _, n := range []int{2 * block, 4 * block, len(content) / 2, len(content) - 2*block, len(content) - block, len(content) - 1} {
		refused(t, content[:n], "its end is missing")
	}
	refused(t, append(bytes.Clone(content), 0), "its end is missing")
	if _, err := Open(name + ".not"); err == nil {
		t.Error("a file that is not there was opened")
	}
	for _, format := range []string{"0", "2"} {
		other := bytes.Replace(content, []byte(`"format": 1,`), []byte(`"format": `+format+`,`), 1)
		refused(t, other, "has format "+format+", made by Sluice 1.2; this Sluice reads format 1")
	}
}

// Any byte that is changed is seen, wherever it lies.
func TestEachFlippedByteIsSeen(t *testing.T) {
	name, _ := made(t)
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	places := []int{}
	for i := 0; i < len(content); i += len(content)/300 + 1 {
		places = append(places, i)
	}
	for i := len(content) - endSize; i < len(content); i += 61 {
		places = append(places, i)
	}
	for _, i := range places {
		flip := func(b byte) {
			if _, err := f.WriteAt([]byte{b}, int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		flip(content[i] ^ 1)
		if a, err := Open(name); err == nil {
			_ = a.Close()
			t.Errorf("byte %d of %d was changed, and the archive taken", i, len(content))
		}
		flip(content[i])
	}
	a, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
}

// writerFunc is a function as an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// JetStream leaves out a value that is replaced while it makes a snapshot.
func TestAReplacedValueIsSeen(t *testing.T) {
	nc, js := server(t)
	const n, size = 40, 400 << 10 // far more than the window
	stream(t, js, jetstream.StreamConfig{Name: positions, MaxMsgsPerSubject: 1}, n, size)
	replace := func(subject string) (ok bool) {
		first := true
		s, err := snapshot(t.Context(), nc, positions, writerFunc(func(b []byte) (int, error) {
			if first && subject != "" {
				publish(t, js, subject, 1)
			}
			first = false
			return len(b), nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		ok, err = whole(t.Context(), js, s)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !replace("") {
		t.Error("a copy that is whole was refused")
	}
	if replace(fmt.Sprintf("books.%d", n-1)) {
		t.Error("a copy was taken although the last value was replaced")
	}
	if replace("books.0") {
		t.Error("a copy was taken although the first value was replaced")
	}
	if !replace("books.new") {
		t.Error("what is added does no harm")
	}
}

// What cannot be held any longer ends the backup, with the reason.
func TestAHoldThatEnds(t *testing.T) {
	nc, js := server(t)
	stream(t, js, jetstream.StreamConfig{Name: positions}, 1, 10)
	stream(t, js, jetstream.StreamConfig{Name: entries}, 40, 400<<10)
	j, full := &journal{}, errors.New("full")
	err := Write(t.Context(), writerFunc(func(b []byte) (int, error) {
		j.end(full)
		return len(b), nil
	}), source(t, nc, j))
	if !errors.Is(err, full) {
		t.Errorf("it ended with %v", err)
	}
	if _, err := snapshot(t.Context(), nc, "NONE", io.Discard); err == nil {
		t.Error("a stream that is not there was copied")
	}
}
