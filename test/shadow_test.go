package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"sluice/app/demo"
	"sluice/network/thingpark/thingparktest"
)

// shadowOf is a part of the state of the shadow of device i.
func shadowOf(w *demo.World, i int, path string) gjson.Result {
	document, _ := w.AWS.Shadow(w.DevEUI(i), "")
	return gjson.GetBytes(document, "state."+path)
}

// desire sets what the shadow of device i desires.
func desire(t *testing.T, w *demo.World, i int, downlink string) {
	t.Helper()
	if err := w.AWS.UpdateShadow(w.DevEUI(i), "", []byte(`{"state":{"desired":{"downlink":`+downlink+`}}}`)); err != nil {
		t.Fatal(err)
	}
}

// TestShadows has devices' shadows tell their latest values, and what shadows
// desire sent to the devices once: also where ThingPark is away meanwhile, and
// Sluice is restarted or killed. The shadow then tells what became of it.
func TestShadows(t *testing.T) {
	for _, protocol := range []string{"SSL", "HTTPS"} {
		t.Run(protocol, func(t *testing.T) { shadowsBy(t, protocol) })
	}
}

func shadowsBy(t *testing.T, protocol string) {
	w, p := opened(t, 4, func(c map[string]any) {
		c["protocol"] = protocol
		c["shadow"] = map[string]any{"enabled": true, "desired": true, "fields": map[string]any{"fCnt": "FCntUp", "rssi": "LrrRSSI"}}
	})
	uplinks := func(n int) {
		t.Helper()
		if err := w.Post(t.Context(), demo.Load{Rate: 100, Count: n}); err != nil {
			t.Fatal(err)
		}
		settled(t, w, true)
	}
	shows := func(i int, path, want string) {
		t.Helper()
		wait(t, fmt.Sprintf("device %d: %s = %s", i, path, want), func() bool { return shadowOf(w, i, path).Raw == want })
	}
	sent := func(payload string) (n int) {
		for _, d := range w.LRC.Downlinks() {
			if strings.EqualFold(d.Payload, payload) {
				n++
			}
		}
		return n
	}
	uplinks(8)
	for i := range 4 {
		wait(t, "the values of a device", func() bool {
			return shadowOf(w, i, "reported.fCnt").Exists() && shadowOf(w, i, "reported.rssi").Type == gjson.Number
		})
	}

	desire(t, w, 0, `{"FPort":2,"payload_hex":"a001"}`)
	shows(0, "reported.downlinkState.state", `"queued"`)
	if sent("a001") != 1 || shadowOf(w, 0, "delta").Exists() {
		t.Errorf("sent %d times; shadow %s", sent("a001"), shadowOf(w, 0, "@this").Raw)
	}

	// Refused by ThingPark: told, and not tried again.
	w.LRC.Set(thingparktest.Answer{Status: 350, Text: "Downlink counter value already used. Expected=1238"})
	desire(t, w, 1, `{"FPort":2,"payload_hex":"a002"}`)
	shows(1, "reported.downlinkState.state", `"rejected"`)
	// No downlink at all.
	desire(t, w, 2, `{"FPort":0,"payload_hex":"xyz"}`)
	shows(2, "reported.downlinkState.state", `"rejected"`)
	_, refused := w.LRC.Count()

	// ThingPark is away, and Sluice is restarted, and killed.
	w.LRC.Set(thingparktest.Answer{Status: http.StatusServiceUnavailable, Text: "away"})
	before := p.commands(w.ConnectionID).Received
	desire(t, w, 3, `{"FPort":2,"payload_hex":"a003"}`)
	wait(t, "the command to be taken", func() bool { return p.commands(w.ConnectionID).Received == before+1 })
	p.terminate()
	p = p.again()
	p.opened(w.ConnectionID)
	uplinks(4) // each update brings the delta again
	p.kill()
	desire(t, w, 0, `{"payload_hex":"a004"}`) // nobody is there
	p = p.again()
	p.opened(w.ConnectionID)
	w.LRC.Set(thingparktest.Answer{})
	uplinks(8)
	shows(3, "reported.downlink.payload_hex", `"a003"`)
	shows(0, "reported.downlink.payload_hex", `"a004"`)
	for i := range 4 {
		wait(t, "no delta", func() bool { return !shadowOf(w, i, "delta").Exists() })
	}
	for payload, want := range map[string]int{"a001": 1, "a002": 0, "a003": 1, "a004": 1} {
		if n := sent(payload); n != want {
			t.Errorf("%s was sent %d times, want %d", payload, n, want)
		}
	}
	if _, n := w.LRC.Count(); refused != 1 {
		t.Errorf("ThingPark refused %d commands before and %d in all", refused, n)
	}
	p.terminate()
}
