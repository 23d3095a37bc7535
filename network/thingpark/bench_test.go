package thingpark_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"sluice"
	"sluice/network/thingpark"
	"sluice/network/thingpark/thingparktest"
)

// BenchmarkServeHTTP is what a signed report costs at the door, without the
// HTTP server and the journal.
func BenchmarkServeHTTP(b *testing.B) {
	n, err := thingpark.New().Open(sluice.NetworkSpec{
		NetworkConfig: sluice.NetworkConfig{ID: "n1", Configuration: json.RawMessage(signed(testASID, testKey))},
		Reports:       sluice.HandlerFunc(func(context.Context, *sluice.Message) error { return nil }),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	f, err := thingparktest.NewFleet(thingparktest.FleetOptions{URL: "http://unused", ASID: testASID, ASKey: testKey, Tags: []string{"gas"}})
	if err != nil {
		b.Fatal(err)
	}
	report := f.Make(sluice.KindUplink, thingparktest.Typed, 0)
	request := httptest.NewRequest(http.MethodPost, "/ingest/n1?"+report.Query, nil)
	request.ContentLength = int64(len(report.Body))
	body := bytes.NewReader(nil)
	request.Body = http.NoBody
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(report.Body)
		request.Body = reader{body}
		w := httptest.NewRecorder()
		n.(http.Handler).ServeHTTP(w, request)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }
