package thingparktest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice"
	"sluice/network/thingpark/thingparktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink takes reports and remembers which.
type sink struct {
	mu     sync.Mutex
	got    map[string]int
	last   map[string]int
	status int
	wrong  []string
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var document map[string]struct {
		DevEUI string
		FCntUp int
	}
	err := json.Unmarshal(body, &document)
	s.mu.Lock()
	defer s.mu.Unlock()
	u := document["DevEUI_uplink"]
	if err != nil || u.DevEUI != r.URL.Query().Get("LrnDevEui") || r.Header.Get("Content-Type") != "application/json" {
		s.wrong = append(s.wrong, string(body))
	}
	if u.FCntUp != s.last[u.DevEUI]+1 {
		s.wrong = append(s.wrong, fmt.Sprintf("%s: %d after %d", u.DevEUI, u.FCntUp, s.last[u.DevEUI]))
	}
	s.last[u.DevEUI] = u.FCntUp
	s.got[fmt.Sprint(u.DevEUI, " ", u.FCntUp)]++
	w.WriteHeader(s.status)
}

func newSink(t *testing.T, status int) (*sink, string) {
	t.Helper()
	s := &sink{got: map[string]int{}, last: map[string]int{}, status: status}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

func TestFleetRun(t *testing.T) {
	s, url := newSink(t, http.StatusOK)
	f, err := thingparktest.NewFleet(thingparktest.FleetOptions{URL: url + "/ingest/x?own=1", Devices: 7, Concurrency: 3})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	results := map[string]thingparktest.Result{}
	each := func(r thingparktest.Result) {
		mu.Lock()
		defer mu.Unlock()
		results[fmt.Sprint(r.DevEUI, " ", r.FCntUp)] = r
	}
	for _, load := range []thingparktest.Load{{Count: 100}, {Count: 50, Rate: 1000}} {
		if err := f.Run(t.Context(), load, each); err != nil {
			t.Fatal(err)
		}
	}
	if r := f.Post(t.Context(), 2); !r.Accepted() {
		t.Errorf("%+v", r)
	} else {
		each(r)
	}
	if len(s.wrong) > 0 {
		t.Error(s.wrong)
	}
	if len(results) != 151 || len(s.got) != 151 {
		t.Errorf("%d results, %d reports came in", len(results), len(s.got))
	}
	for id, r := range results {
		if !r.Accepted() || s.got[id] != 1 || r.Start.IsZero() || r.Took <= 0 {
			t.Errorf("%s: %+v, came in %d times", id, r, s.got[id])
		}
	}
}

func TestFleetEnds(t *testing.T) {
	_, url := newSink(t, http.StatusServiceUnavailable)
	f, err := thingparktest.NewFleet(thingparktest.FleetOptions{URL: url, Devices: 3})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := f.Run(ctx, thingparktest.Load{Rate: 1000}, func(r thingparktest.Result) {
		if r.Accepted() || r.Status != http.StatusServiceUnavailable {
			t.Errorf("%+v", r)
		}
		cancel()
	}); err != nil {
		t.Errorf("a load without an end ended with %v", err)
	}
	if err := f.Run(ctx, thingparktest.Load{Count: 5}, func(thingparktest.Result) {}); err == nil {
		t.Error("a load that was cut off ended without an error")
	}
	if r := f.Post(ctx, 0); r.Accepted() || r.Err == nil {
		t.Errorf("posted after the end: %+v", r)
	}
}

func TestUplinkSize(t *testing.T) {
	f, err := thingparktest.NewFleet(thingparktest.FleetOptions{URL: "http://unused", Tags: []string{"gas"}})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for i := range 50 {
		r := f.Make(sluice.KindUplink, thingparktest.Typed, i)
		if !json.Valid(r.Body) {
			t.Fatalf("%s", r.Body)
		}
		total += len(r.Body)
	}
	if mean := total / 50; mean < 1100 || mean > 1400 {
		t.Errorf("an uplink has %d bytes on average", mean)
	}
}

func TestLRC(t *testing.T) {
	const key = "46ab678cd45df4a4e4b375Eacd096acc"
	// The Token that actility/thingpark-integrations publishes.
	const good = "DevEUI=000000000F1D8693&FPort=1&Payload=00&AS_ID=app1.sample.com&Time=2016-01-11T14%3A28%3A00.333%2B02%3A00" +
		"&Token=ea8f31d2299cbece8e180a3012766c4df15fe3cf2e142d9fdf4035b5894ec886"
	clock := func() time.Time { return time.Date(2016, 1, 11, 12, 28, 30, 0, time.UTC) }
	l, err := thingparktest.NewLRC(thingparktest.LRCOptions{Keys: map[string]string{"app1.sample.com": key}, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	defer http.DefaultClient.CloseIdleConnections()
	post := func(query, body string) (int, string) {
		t.Helper()
		response, err := http.Post(l.URL()+"?"+query, "application/x-www-form-urlencoded", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(text)
	}
	if status, text := post(good, ""); status != 200 || text != "<html><body>Request queued by LRC</body></html>" {
		t.Errorf("%d %s", status, text)
	}
	for query, want := range map[string]int{
		strings.Replace(good, "Payload=00", "Payload=01", 1):                     403,
		strings.Replace(good, "AS_ID=app1", "AS_ID=app2", 1):                     403,
		strings.Replace(good, "14%3A28", "14%3A26", 1):                           403,
		strings.Split(good, "&Token")[0]:                                         403,
		strings.Replace(good, "Payload=00", "Payload=0", 1):                      400,
		strings.Replace(good, "FPort=1", "FPort=0", 1):                           400,
		strings.Replace(good, "FPort=1", "FPort=1&FPort=2", 1):                   400,
		strings.Replace(good, "FPort=1", "FPort=1&"+url.QueryEscape("é")+"=", 1): 400,
	} {
		if status, text := post(query, ""); status != want {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	if status, _ := post(good, "x"); status != 400 {
		t.Errorf("with a body: %d", status)
	}
	l.Set(thingparktest.Answer{Status: 350, Text: "no"})
	if status, text := post(good, ""); status != 350 || text != "<html><body>no</body></html>" {
		t.Errorf("%d %s", status, text)
	}
	if err := l.Wait(t.Context(), 11); err != nil {
		t.Error(err)
	}
	if queued, refused := l.Count(); queued != 1 || refused != 10 {
		t.Errorf("queued %d, refused %d", queued, refused)
	}
	if all := l.Downlinks(); len(all) != 1 || all[0].DevEUI != "000000000F1D8693" || all[0].FPort != 1 || all[0].Payload != "00" || all[0].ASID != "app1.sample.com" {
		t.Errorf("%+v", all)
	}
}

// BenchmarkPost says what a report costs on both sides of the wire.
func BenchmarkPost(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	f, err := thingparktest.NewFleet(thingparktest.FleetOptions{URL: server.URL, ASID: "a", ASKey: "46ab678cd45df4a4e4b375eacd096acc"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	if err := f.Run(b.Context(), thingparktest.Load{Count: b.N}, func(thingparktest.Result) {}); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkMake(b *testing.B) {
	f, err := thingparktest.NewFleet(thingparktest.FleetOptions{URL: "http://unused", ASID: "a", ASKey: "46ab678cd45df4a4e4b375eacd096acc"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = f.Make(sluice.KindUplink, thingparktest.Typed, 0)
	}
}
