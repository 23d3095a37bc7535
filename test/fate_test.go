package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"sluice/app/demo"
	"sluice/network/thingpark/thingparktest"
)

type commandCounts struct{ Received, Queued, Rejected, Expired, Redelivered int }

func (p *process) commands(id string) commandCounts {
	p.t.Helper()
	var v struct{ Commands commandCounts }
	if err := p.api.Do(p.t.Context(), "GET", "/connections/"+id+"/metrics", nil, &v); err != nil {
		p.t.Fatal(err)
	}
	return v.Commands
}

// send publishes a command for the first device.
func send(t *testing.T, w *demo.World, correlation, more string) {
	t.Helper()
	document := fmt.Sprintf(`{"DevEUI_downlink":{"DevEUI":%q,"FPort":2,"payload_hex":"0103","CorrelationID":%q%s}}`, w.DevEUI(0), correlation, more)
	if err := w.Publish(t.Context(), w.DevEUI(0), []byte(document)); err != nil {
		t.Fatal(err)
	}
}

// TestFateOfCommands sends commands that are queued, refused and expire while
// the network server is away: the application is told of each, with its
// CorrelationID, and all are counted.
func TestFateOfCommands(t *testing.T) {
	w, p := opened(t, 2, nil)
	if err := w.Post(t.Context(), demo.Load{Rate: 100, Count: 4}); err != nil {
		t.Fatal(err)
	}
	settled(t, w, false)
	const queued, rejected = "DevEUI_downlink_Queued", "DevEUI_downlink_Rejected"
	arrived := func(kind string, n int) gjson.Result {
		t.Helper()
		wait(t, fmt.Sprintf("report %d of the kind %s", n, kind), func() bool { return len(w.Fates(kind)) >= n })
		return gjson.GetBytes(w.Fates(kind)[n-1], kind)
	}

	send(t, w, "00000000000000A1", "")
	got := arrived(queued, 1)
	if got.Get("CorrelationID").String() != "00000000000000A1" || got.Get("DeliveryStatus").Int() != 200 || len(got.Get("CommandID").String()) != 26 ||
		got.Get("DevEUI").String() != w.DevEUI(0) {
		t.Errorf("queued: %s", got.Raw)
	}

	// Away for longer than the command is valid, through a restart.
	w.LRC.Set(thingparktest.Answer{Status: http.StatusServiceUnavailable, Text: "away"})
	send(t, w, "00000000000000A2", `,"ValidityTime":3`)
	wait(t, "the command to be taken", func() bool { return p.commands(w.ConnectionID).Received == 2 })
	p.terminate()
	p = p.again()
	got = arrived(rejected, 1)
	if got.Get("CorrelationID").String() != "00000000000000A2" || got.Get("DeliveryStatus").Int() != 0 ||
		!strings.HasPrefix(got.Get("DownlinkRejectionCause").String(), "Validity time expired. It is ") {
		t.Errorf("expired: %s", got.Raw)
	}
	var events []struct{ Type, Detail, DevEUI string }
	if err := p.api.Do(t.Context(), "GET", "/events?perPage=100", nil, &events); err != nil {
		t.Fatal(err)
	}
	told := false
	for _, e := range events {
		told = told || e.Type == "downlink.expired" && e.DevEUI == w.DevEUI(0) && strings.Contains(e.Detail, "the limit is 3s")
	}
	if !told {
		t.Errorf("no event says that it expired, with device, age and limit: %+v", events)
	}

	// Away for less long: the command waits, and ThingPark is told what is left.
	send(t, w, "00000000000000A3", `,"ValidityTime":3600`)
	wait(t, "the command to be taken", func() bool { return p.commands(w.ConnectionID).Received == 3 })
	w.LRC.Set(thingparktest.Answer{})
	if got := arrived(queued, 2); got.Get("CorrelationID").String() != "00000000000000A3" {
		t.Errorf("queued: %s", got.Raw)
	}
	w.LRC.Set(thingparktest.Answer{Status: 350, Text: "Downlink counter value already used. Expected=1238"})
	send(t, w, "00000000000000A4", "")
	if got := arrived(rejected, 2); got.Get("DeliveryStatus").Int() != 350 || got.Get("CorrelationID").String() != "00000000000000A4" {
		t.Errorf("rejected: %s", got.Raw)
	}
	if n := len(w.LRC.Downlinks()); n != 2 {
		t.Errorf("ThingPark took %d downlinks", n)
	}
	want := commandCounts{Received: 4, Queued: 2, Rejected: 1, Expired: 1}
	wait(t, "the counters", func() bool { return p.commands(w.ConnectionID) == want && p.counters(w.ConnectionID).holds() })

	// As ThingPark X IoT Flow has it.
	put(t, p, w.ConnectionID, func(c map[string]any) { c["configuration"].(map[string]any)["downlinkReports"] = "rejected" })
	before := p.counters(w.ConnectionID).Received
	w.LRC.Set(thingparktest.Answer{})
	send(t, w, "00000000000000A5", "")
	wait(t, "the command to be queued", func() bool { return p.commands(w.ConnectionID).Queued == 3 })
	if c := p.counters(w.ConnectionID); c.Received != before {
		t.Errorf("a report was made that is not wanted: %+v", c)
	}
	p.terminate()
}

// TestOneFrameTwoNetworks posts what two network servers report of one frame:
// it arrives once.
func TestOneFrameTwoNetworks(t *testing.T) {
	w, p := opened(t, 1, nil)
	const eui = "20635F0108000496"
	post := func(network, fields string) {
		t.Helper()
		request := fmt.Sprintf(`{"DevEUI_uplink":{"Time":%q,"DevEUI":%q,"FPort":1,"CustomerID":"1",%s}}`, time.Now().UTC().Format(time.RFC3339Nano), eui, fields)
		response, err := http.Post(p.api.Base+"/ingest/"+network+"?LrnDevEui="+eui, "application/json", strings.NewReader(request))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
	var networks [2]struct{ ID string }
	for i := range networks {
		if err := p.api.Do(t.Context(), "POST", "/networks", map[string]any{
			"kind": "thingpark", "name": fmt.Sprintf("network %d", i), "configuration": map[string]any{},
		}, &networks[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i, fields := range []string{
		`"FCntUp":1,"payload_hex":"0a","mic_hex":"00c0ffee"`,
		`"FCntUp":2,"payload_hex":"0a","mic_hex":"00c0ffef"`,
		`"FCntUp":1,"payload_hex":"0a","mic_hex":"1badcafe"`, // after a join
	} {
		post(networks[i%2].ID, fields+`,"Lrrid":"10000001"`)
		post(networks[1-i%2].ID, strings.ReplaceAll(fields, "c0ffe", "C0FFE")+`,"Lrrid":"20000002"`)
	}
	// Without a MIC each network's report is one of its own.
	for _, n := range networks {
		post(n.ID, `"FCntUp":3,"payload_hex":"0a"`)
	}
	var v struct {
		Duplicates int
		Total      counters
	}
	wait(t, "all to be delivered", func() bool {
		if err := p.api.Do(t.Context(), "GET", "/connections/"+w.ConnectionID+"/metrics", nil, &v); err != nil {
			t.Fatal(err)
		}
		return v.Total.Delivered == 5
	})
	if v.Duplicates != 3 || v.Total.Received != 5 || !v.Total.holds() {
		t.Errorf("metrics %+v", v)
	}
	// FCntUp 1 and 3 are there twice on purpose; see above.
	if got := w.Totals(); got.Arrived != 3 || got.Twice != 2 {
		t.Errorf("totals %+v", got)
	}
	p.terminate()
}
