package test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"sluice"
	"sluice/app/demo"
	"sluice/network/thingpark/thingparktest"
)

// maxPayload is what AWS takes.
const maxPayload = 128 << 10

// TestQuarantine posts, between good reports of one device, all that can never
// be delivered: a topic that cannot be made, one of 257 bytes, a payload of
// 128 KiB and a byte. None of them is sent or costs a session, all others
// arrive; once the configuration is mended, they are sent again. (A topic of
// eight slashes cannot come about: the values of a pattern add none, and the
// pattern itself is refused.)
func TestQuarantine(t *testing.T) {
	w, data, listen := world(t, 1), t.TempDir(), freePort(t)
	p := serve(t, data, listen, "--public-url", "https://sluice.example.com")
	if err := w.Configure(t.Context(), p.api, func(c map[string]any) {
		c["uplinkTopicPattern"] = "tpx/things/{DevEUI}/{place}"
	}); err != nil {
		t.Fatal(err)
	}
	p.opened(w.ConnectionID)
	at := "/connections/" + w.ConnectionID
	refusePattern(t, p, at, "a/b/c/d/e/f/g/h/{DevEUI}")

	url := gjson.GetBytes(p.get(at), "downlinkUrl").String()
	send := sender(t, p)
	good := `"place":"uplink"`
	// The topic is tpx/things/<16 digits>/<place>, the payload has the address added.
	long := fmt.Sprintf(`"place":%q`, strings.Repeat("x", 257-len("tpx/things/0123456789ABCDEF/")))
	large := maxPayload + 1 - len(`,"downlinkUrl":""`) - len(url)
	for _, fields := range []string{good, "", good, long, good} {
		send(fields, 0)
	}
	send(good, large)
	send(good, 0)

	failed := counters{Received: 7, Delivered: 4, Failed: 3}
	p.counts(w.ConnectionID, failed)
	wait(t, "the good reports to arrive", func() bool { return w.Totals().Arrived == 4 })
	var reasons []string
	for _, q := range gjson.ParseBytes(p.get(at + "/quarantine")).Array() {
		reasons = append(reasons, q.Get("reason").String())
	}
	slices.Sort(reasons)
	if d := cmp.Diff([]string{"pattern", "too_large", "topic"}, reasons); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if v := gjson.GetBytes(p.get(at+"/metrics"), "quarantined").Int(); v != 3 {
		t.Errorf("quarantined = %d", v)
	}
	if retried := p.post(at + "/quarantine/retry"); gjson.GetBytes(retried, "retried").Int() != 3 {
		t.Errorf("%s", retried)
	}
	// Nothing is mended: each fails once more, and is one message still.
	wait(t, "all to fail again", func() bool { return gjson.GetBytes(p.get(at+"/metrics"), "quarantined").Int() == 3 })
	p.counts(w.ConnectionID, failed)
	undisturbed(t, w, p)
	p.terminate()

	p = p.again() // without the address for downlinks, by which the payload was too large
	p.opened(w.ConnectionID)
	if list := gjson.ParseBytes(p.get(at + "/quarantine")).Array(); len(list) != 3 {
		t.Fatalf("%d lie in quarantine after the restart", len(list))
	}
	put(t, p, w.ConnectionID, func(c map[string]any) {
		c["configuration"].(map[string]any)["uplinkTopicPattern"] = "tpx/things/{DevEUI}/uplink"
	})
	wait(t, "the mended pattern to be in force", func() bool { return p.connection(w.ConnectionID).Applied })
	p.post(at + "/quarantine/retry")
	p.counts(w.ConnectionID, counters{Received: 7, Delivered: 7})
	wait(t, "all to arrive", func() bool { return w.Totals().Arrived == 7 })
	if got := w.Totals(); got.Twice != 0 {
		t.Errorf("totals = %+v", got)
	}
	if list := string(p.get(at + "/quarantine")); strings.TrimSpace(list) != "[]" {
		t.Errorf("quarantine = %s", list)
	}
	p.terminate()
}

// sender returns what posts a report of one device, through a network of its
// own, with more fields, filled up to a size.
func sender(t *testing.T, p *process) func(fields string, size int) {
	t.Helper()
	var network struct{ ID string }
	if err := p.api.Do(t.Context(), "POST", "/networks", map[string]any{"kind": "thingpark", "name": "unsigned", "configuration": map[string]any{}}, &network); err != nil {
		t.Fatal(err)
	}
	fleet, err := thingparktest.NewFleet(thingparktest.FleetOptions{URL: p.api.Base + "/ingest/" + network.ID, Devices: 1, First: 0x70B3D50000000001})
	if err != nil {
		t.Fatal(err)
	}
	return func(fields string, size int) {
		t.Helper()
		r := fleet.Make(sluice.KindUplink, thingparktest.Typed, 0)
		add := func(member string) {
			if member != "" {
				r.Body = fmt.Appendf(r.Body[:len(r.Body)-2], ",%s}}", member)
			}
		}
		if add(fields); size > 0 {
			add(fmt.Sprintf(`"filler":%q`, strings.Repeat("f", size-len(r.Body)-len(`,"filler":""`))))
		}
		if result := fleet.Send(t.Context(), r); !result.Accepted() {
			t.Fatalf("%+v", result)
		}
	}
}

// refusePattern wants a topic pattern to be refused.
func refusePattern(t *testing.T, p *process, at, pattern string) {
	t.Helper()
	var c map[string]any
	if err := p.api.Do(t.Context(), "GET", at, nil, &c); err != nil {
		t.Fatal(err)
	}
	configuration := c["configuration"].(map[string]any)
	configuration["uplinkTopicPattern"] = pattern
	status, body, err := p.api.Raw(t.Context(), "PUT", at, map[string]any{
		"connectorId": c["connectorId"], "name": c["name"], "configuration": configuration,
	})
	if err != nil || status != http.StatusBadRequest || !strings.Contains(string(body), "slashes") {
		t.Errorf("PUT with %s: %d %s %v", pattern, status, body, err)
	}
}

// undisturbed wants no session to have been lost, and nothing but the four good
// reports to have been sent.
func undisturbed(t *testing.T, w *demo.World, p *process) {
	t.Helper()
	var published uint64
	for id, c := range w.AWS.ClientStats() {
		if published += c.Published; c.Connects != 1 {
			t.Errorf("%s connected %d times", id, c.Connects)
		}
	}
	if published != 4 {
		t.Errorf("%d were published", published)
	}
	events := p.events("")
	if strings.Contains(string(events), string(sluice.EventSessionLost)) {
		t.Errorf("a session was lost: %s", events)
	}
	if want := "POST /connections/" + w.ConnectionID + "/quarantine/"; !strings.Contains(string(p.events("?type=uplink.failed")), want) {
		t.Errorf("no event says how to send it again: %s", events)
	}
}

// counts waits for the counters of a connection; they add up at each moment.
func (p *process) counts(id string, want counters) {
	p.t.Helper()
	var got counters
	wait(p.t, fmt.Sprintf("the counters to be %+v", want), func() bool {
		got = p.counters(id)
		if !got.holds() {
			p.t.Fatalf("the law of the counters does not hold: %+v", got)
		}
		return got == want
	})
}

func (p *process) get(path string) []byte  { p.t.Helper(); return p.want("GET", path) }
func (p *process) post(path string) []byte { p.t.Helper(); return p.want("POST", path) }

func (p *process) want(method, path string) []byte {
	p.t.Helper()
	status, body, err := p.api.Raw(p.t.Context(), method, path, nil)
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("%s %s: %d %s %v", method, path, status, body, err)
	}
	return body
}
