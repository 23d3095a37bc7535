package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"sluice/bench/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDocuments(t *testing.T) {
	all, err := newDocuments(3, 2, []string{"g1"})
	if err != nil {
		t.Fatal(err)
	}
	d := all[1]
	size := len(d.body)
	for i := range 3 {
		now := time.Date(2026, 11, 23, 6, 0, i, 123_456_789, time.UTC)
		d.next(now)
		if !gjson.ValidBytes(d.body) || len(d.body) != size {
			t.Fatalf("the report is damaged: %s", d.body)
		}
		root := gjson.GetBytes(d.body, "DevEUI_uplink")
		want := uint32(ledger.FirstFCnt + i)
		if got := root.Get("FCntUp").Uint(); got != uint64(want) {
			t.Errorf("FCntUp is %d, want %d", got, want)
		}
		if got, want := root.Get("Time").String(), now.Format(timeLayout); got != want {
			t.Errorf("Time is %s, want %s", got, want)
		}
		if got := root.Get("CustomerData.tags.0").String(); got != "g1" {
			t.Errorf("the tag is %q", got)
		}
		eui, fCnt, posted, ok := Read(d.body)
		if !ok || eui != FirstDevEUI+4 || fCnt != want || !posted.Equal(now) {
			t.Errorf("read %X %d %v %v", eui, fCnt, posted, ok)
		}
		q, err := url.ParseQuery(string(d.query))
		if err != nil || q.Get("LrnDevEui") != d.devEUI || q.Get("Time") != now.Format(timeLayout) || len(q.Get("Token")) != 64 {
			t.Errorf("the address has %s", d.query)
		}
	}
	for _, bad := range []string{"", `{"DevEUI":"0251C0DE0000`, `{"DevEUI":"0251C0DE00000001"}`, `{"DevEUI":"0251C0DE00000001","payload_hex":"zz3456789012345678901234"}`} {
		if _, _, _, ok := Read([]byte(bad)); ok {
			t.Errorf("%q is taken for a report", bad)
		}
	}
}

// TestGenerator posts to a server that refuses and hangs up now and then, and
// checks what is written down against what the server knows.
func TestGenerator(t *testing.T) {
	var requests, taken atomic.Int64
	var mu sync.Mutex
	last := map[string]uint64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		root := gjson.GetBytes(body, "DevEUI_uplink")
		if err != nil || r.URL.Query().Get("LrnDevEui") != root.Get("DevEUI").String() {
			t.Errorf("the request is damaged: %v %s", err, body)
		}
		mu.Lock()
		if n := root.Get("FCntUp").Uint(); n <= last[root.Get("DevEUI").String()] {
			t.Errorf("report %d of a device comes late", n)
		} else {
			last[root.Get("DevEUI").String()] = n
		}
		mu.Unlock()
		switch requests.Add(1) % 10 {
		case 3:
			http.Error(w, "not now", http.StatusServiceUnavailable)
		case 5:
			w.Header().Set("Connection", "close")
			taken.Add(1)
		case 7:
			panic(http.ErrAbortHandler)
		default:
			taken.Add(1)
		}
	}))
	defer server.Close()
	l := ledger.New(FirstDevEUI, 20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g, err := New(Options{
		Devices: 20, Concurrency: 4, Groups: 3, Ledger: l,
		Target: func() Target {
			if requests.Load() >= 200 {
				cancel()
			}
			return Target{URL: server.URL + "/ingest/x"}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if size := g.Size(); size < 1100 || size > 1400 {
		t.Errorf("a report has %d bytes", size)
	}
	g.Run(ctx, 0)
	got := l.Totals()
	if int64(got.Accepted) != taken.Load() || got.Accepted+got.Refused != int(requests.Load()) || got.Refused == 0 {
		t.Errorf("written down: %+v; the server took %d of %d", got, taken.Load(), requests.Load())
	}
}

func TestNobodyListens(t *testing.T) {
	l := ledger.New(FirstDevEUI, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tries := 0
	g, err := New(Options{Devices: 2, Concurrency: 1, Ledger: l, Target: func() Target {
		if tries++; tries == 3 {
			cancel()
		}
		return Target{URL: "http://127.0.0.1:1/"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.Run(ctx, 1000)
	if got := l.Totals(); got.Refused != 3 || got.Accepted != 0 {
		t.Errorf("written down: %+v", got)
	}
	if _, err := New(Options{Devices: 1, Concurrency: 2}); err == nil {
		t.Error("fewer devices than connections are taken")
	}
}

// BenchmarkReport is what a report costs the generator before it is written.
func BenchmarkReport(b *testing.B) {
	all, err := newDocuments(0, 1, nil)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		all[0].next(now)
	}
}

func ExampleTag() {
	fmt.Println(Tag(3))
	// Output: g3
}
