package thingpark_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice"
	"sluice/network/networktest"
	"sluice/network/thingpark"
	"sluice/network/thingpark/thingparktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testASID = "TWA_100009731.4.AS"
	testKey  = "46ab678cd45df4a4e4b375eacd096acc"
)

// door is an open network that posts can be made to.
type door struct {
	network sluice.Network
	url     string
	events  *networktest.Events
	log     *bytes.Buffer

	mu     sync.Mutex
	got    []*sluice.Message
	handle func(context.Context, *sluice.Message) error
}

func (d *door) take(ctx context.Context, m *sluice.Message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, m)
	if d.handle != nil {
		return d.handle(ctx, m)
	}
	return nil
}

func (d *door) taken() []*sluice.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*sluice.Message(nil), d.got...)
}

// openDoor opens a network behind a real server. clock may be nil.
func openDoor(t *testing.T, configuration string, clock sluice.Clock) *door {
	t.Helper()
	d := &door{events: &networktest.Events{}, log: &bytes.Buffer{}}
	n, err := thingpark.New().Open(sluice.NetworkSpec{
		NetworkConfig: sluice.NetworkConfig{ID: "n1", Kind: "thingpark", Configuration: json.RawMessage(configuration)},
		Reports:       sluice.HandlerFunc(d.take),
		Events:        d.events,
		Sealer:        networktest.Sealer{},
		Clock:         clock,
		Log:           slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.network = n
	server := httptest.NewServer(n.(http.Handler))
	d.url = server.URL + "/ingest/n1"
	t.Cleanup(n.Close)
	t.Cleanup(server.Close)
	return d
}

// post posts a document with a raw query and returns status and body.
func (d *door) post(t *testing.T, query, body string) (int, string) {
	t.Helper()
	response, err := http.Post(d.url+"?"+query, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, _ := io.ReadAll(response.Body)
	http.DefaultClient.CloseIdleConnections()
	return response.StatusCode, string(answer)
}

func clockAt(t *testing.T, text string) sluice.Clock {
	t.Helper()
	now, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return func() time.Time { return now }
}

func signed(asID, key string) string {
	return `{"asId":"` + asID + `","asKey":"` + key + `"}`
}

func newFleet(t *testing.T, o thingparktest.FleetOptions) *thingparktest.Fleet {
	t.Helper()
	f, err := thingparktest.NewFleet(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newLRC(t *testing.T, o thingparktest.LRCOptions) *thingparktest.LRC {
	t.Helper()
	l, err := thingparktest.NewLRC(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestContract(t *testing.T) {
	networktest.Run(t, func(t *testing.T) networktest.Subject {
		lrc := newLRC(t, thingparktest.LRCOptions{Keys: map[string]string{testASID: testKey}})
		made := map[int]*thingparktest.Report{}
		fleet := newFleet(t, thingparktest.FleetOptions{URL: "http://unused", ASID: testASID, ASKey: testKey, Tags: []string{"gas"}})
		request := func(url string, r *thingparktest.Report) *http.Request {
			request, err := http.NewRequest(http.MethodPost, url+"/?"+r.Query, bytes.NewReader(r.Body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", r.ContentType)
			return request
		}
		return networktest.Subject{
			Kind:          thingpark.New(),
			Configuration: json.RawMessage(`{"asId":"` + testASID + `","asKey":"` + testKey + `","downlinkUrl":"` + lrc.URL() + `"}`),
			Report: func(n int, url string) *http.Request {
				if made[n] == nil {
					made[n] = fleet.Make(sluice.KindUplink, thingparktest.Typed, n)
				}
				return request(url, made[n])
			},
			Bad: func(url string) (*http.Request, int) {
				r := fleet.Make(sluice.KindUplink, thingparktest.Typed, 0)
				r.Body = bytes.Replace(r.Body, []byte(`"payload_hex":"`), []byte(`"payload_hex":"00`), 1)
				return request(url, r), http.StatusUnauthorized
			},
			Command: func(int) *sluice.Message {
				return command(`"FPort":8,"payload_hex":"0103"`)
			},
			Delivered: func() int { queued, _ := lrc.Count(); return queued },
			Refuse: func(on bool) {
				if on {
					lrc.Set(thingparktest.Answer{Status: 350, Text: "Downlink counter value already used. Expected=1238"})
				} else {
					lrc.Set(thingparktest.Answer{})
				}
			},
		}
	})
}

func TestCheck(t *testing.T) {
	for configuration, paths := range map[string]string{
		`{}`: "",
		`{"asId":"","asKey":"","downlinkUrl":"","maxTimeDeviation":""}`: "",
		`{"asId":"a","asKey":"` + testKey + `"}`:                        "",
		`{"asId":"a","asKey":"` + strings.ToUpper(testKey) + `"}`:       "",
		`{"asId":"a"}`:                                                      "asKey",
		`{"asKey":"` + testKey + `"}`:                                       "asId",
		`{"asId":"a","asKey":"1234"}`:                                       "asKey",
		`{"asId":" a","asKey":"*****"}`:                                     "asId asKey",
		`{"asId":"a\nb"}`:                                                   "asId asKey",
		`{"maxTimeDeviation":"0"}`:                                          "",
		`{"maxTimeDeviation":"5m"}`:                                         "",
		`{"maxTimeDeviation":"60"}`:                                         "maxTimeDeviation",
		`{"maxTimeDeviation":"-1s"}`:                                        "maxTimeDeviation",
		`{"downlinkUrl":"https://h/x?a=b"}`:                                 "",
		`{"downlinkUrl":"http://[::1]:80/"}`:                                "",
		`{"downlinkUrl":"ftp://h/x"}`:                                       "downlinkUrl",
		`{"downlinkUrl":"h/x"}`:                                             "downlinkUrl",
		`{"downlinkUrl":"https://"}`:                                        "downlinkUrl",
		`{"downlinkUrl":"https://:80/"}`:                                    "downlinkUrl",
		`{"downlinkUrl":"https://u:p@h/"}`:                                  "downlinkUrl",
		`{"downlinkUrl":"https://h/#x"}`:                                    "downlinkUrl",
		`{"downlinkUrl":"https://h/?Token=1"}`:                              "downlinkUrl",
		`{"downlinkUrl":"https://h/ x%zz"}`:                                 "downlinkUrl",
		`{"asId":"a","downlinkUrl":"x","maxTimeDeviation":"x","asKey":"x"}`: "asKey downlinkUrl maxTimeDeviation",
	} {
		var got []string
		for _, p := range thingpark.New().Check(json.RawMessage(configuration)) {
			got = append(got, p.Path)
			if p.Message == "" {
				t.Errorf("%s: no message for %s", configuration, p.Path)
			}
		}
		if strings.Join(got, " ") != paths {
			t.Errorf("%s: problems in %q, want %q", configuration, got, paths)
		}
	}
	for _, odd := range []string{`[]`, `{"asId":1}`, `null2`} {
		if len(thingpark.New().Check(json.RawMessage(odd))) == 0 {
			t.Errorf("%s: no problem", odd)
		}
	}
	if _, err := thingpark.New().Open(sluice.NetworkSpec{NetworkConfig: sluice.NetworkConfig{Configuration: json.RawMessage(`{"asId":"a"}`)}}); sluice.CodeOf(err) != sluice.CodeInvalid {
		t.Errorf("Open: %v", err)
	}
}
