package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/app"
)

// instance is a Sluice on a data directory, run by the test.
type instance struct {
	*app.App
	t    *testing.T
	stop func() error
}

func open(t *testing.T, data string) *instance {
	t.Helper()
	a, err := app.New(t.Context(), app.Options{Data: data, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	return &instance{App: a, t: t}
}

func (i *instance) run() {
	i.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(i.t.Context()))
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	var result error
	ended := false
	i.stop = func() error {
		if !ended {
			cancel()
			result, ended = <-done, true
		}
		return result
	}
	i.t.Cleanup(func() {
		if err := i.stop(); err != nil {
			i.t.Error(err)
		}
	})
}

func (i *instance) send(method, path, body string) (int, http.Header, []byte) {
	i.t.Helper()
	request, err := http.NewRequestWithContext(i.t.Context(), method, "http://"+i.Addr()+path, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+i.Token())
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		i.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return response.StatusCode, response.Header, answer
}

func (i *instance) make(path, body string) (id string) {
	i.t.Helper()
	status, header, answer := i.send("POST", path, body)
	var made struct{ ID string }
	if status != http.StatusCreated || json.Unmarshal(answer, &made) != nil || header.Get("Location") != path+"/"+made.ID {
		i.t.Fatalf("POST %s: %d %s", path, status, answer)
	}
	return made.ID
}

const uplink = `{"DevEUI_uplink":{"DevEUI":"20635F0108000496","FPort":1,"FCntUp":1,"payload_hex":"00","mic_hex":"0","CustomerID":"1"}}`

func TestReportsOfUnwantedDevicesAreKept(t *testing.T) {
	data := t.TempDir()
	i := open(t, data)
	i.run()
	id := i.make("/networks", `{"kind":"thingpark","name":"n","configuration":{}}`)
	if status, _, answer := i.send("POST", "/ingest/"+id+"?LrnDevEui=20635F0108000496&LrnFPort=1&LrnInfos=x", uplink); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	// The copy, right away, on both paths.
	if status, _, answer := i.send("POST", "/iot-flow/v1/ingest/"+id+"?LrnDevEui=20635F0108000496&LrnFPort=1&LrnInfos=x", uplink); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	if s := i.Stats(); s.Reports != 1 || s.Unmatched != 1 || s.Duplicates != 1 {
		t.Errorf("stats = %+v", s)
	}
	if status, _, _ := i.send("GET", "/readyz", ""); status != http.StatusOK {
		t.Errorf("readyz = %d", status)
	}
	_, _, metrics := i.send("GET", "/metrics", "")
	for _, want := range []string{"sluice_reports_total 1\n", "sluice_reports_unmatched_total 1\n", "sluice_reports_duplicate_total 1\n"} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	if strings.Contains(string(metrics), id) {
		t.Error("/metrics tells the address of a network")
	}
	if err := i.stop(); err != nil {
		t.Fatal(err)
	}
	i = open(t, data)
	i.run()
	if status, _, _ := i.send("GET", "/devices/20635F0108000496", ""); status != http.StatusOK {
		t.Errorf("the device is forgotten: %d", status)
	}
}

// A journal that does not answer is a 503 with Retry-After, within a second.
func TestStalledJournal(t *testing.T) {
	i := open(t, t.TempDir())
	door, release := i.Stall()
	t.Cleanup(release)
	begun := time.Now()
	answer := door(uplink)
	if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v %s", answer.Code, answer.Header(), answer.Body)
	}
	t.Logf("answered after %s", time.Since(begun))
	i.Close()
}

// What a deleted connection leaves behind is removed.
func TestDeletedConnectionLeavesNothing(t *testing.T) {
	i := open(t, t.TempDir())
	i.run()
	id := i.AddConnection(t)
	flow := i.make("/flows", `{"name":"f","matchers":[],"connectors":[{"id":"actility-aws-iot","connectionId":"`+id+`"}]}`)
	network := i.make("/networks", `{"kind":"thingpark","name":"n","configuration":{}}`)
	if status, _, answer := i.send("POST", "/ingest/"+network+"?LrnDevEui=20635F0108000496&LrnFPort=1&LrnInfos=x", uplink); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	if c := i.Counters(id); c.Pending != 1 {
		t.Fatalf("counters = %+v", c)
	}
	if status, _, answer := i.send("DELETE", "/flows/"+flow, ""); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, answer)
	}
	if status, _, answer := i.send("DELETE", "/connections/"+id, ""); status != http.StatusConflict {
		t.Fatalf("with a backlog: %d %s", status, answer)
	}
	if status, _, answer := i.send("DELETE", "/connections/"+id+"?force=true", ""); status != http.StatusNoContent {
		t.Fatalf("forced: %d %s", status, answer)
	}
	deadline := time.Now().Add(30 * time.Second)
	for i.HasPlace(id) {
		if time.Now().After(deadline) {
			t.Fatal("its entries are still in the journal")
		}
		time.Sleep(10 * time.Millisecond) // a poll
	}
}
