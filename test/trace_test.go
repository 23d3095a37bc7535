package test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/app/demo"
	"sluice/network/thingpark/thingparktest"
)

// messageTrace is what the API tells of a message.
type messageTrace struct {
	ID, Kind, DevEUI, NetworkID, ConnectionID, Source string
	Received, Journalled                              time.Time
	Ways                                              []struct {
		ConnectionID, NetworkID, State, Topic, Session, Reason, Message, Hint string
		Sent, Acknowledged, Over                                              time.Time
		Tries, Status                                                         int
	}
}

// messages are the last messages of a device.
func (p *process) messages(devEUI string) []messageTrace {
	p.t.Helper()
	var v struct{ Messages []messageTrace }
	if err := p.api.Do(p.t.Context(), "GET", "/devices/"+devEUI+"/messages", nil, &v); err != nil {
		p.t.Fatal(err)
	}
	return v.Messages
}

// message is one message with one way.
func (p *process) message(id string) messageTrace {
	p.t.Helper()
	var v messageTrace
	if err := p.api.Do(p.t.Context(), "GET", "/messages/"+id, nil, &v); err != nil {
		p.t.Fatal(err)
	}
	if len(v.Ways) != 1 {
		p.t.Fatalf("%d ways, want 1: %+v", len(v.Ways), v)
	}
	return v
}

// becomes posts a report of the first device and waits until it is in a state,
// which both addresses tell.
func (p *process) becomes(w *demo.World, state string) messageTrace {
	p.t.Helper()
	if err := w.Post(p.t.Context(), demo.Load{Count: 1}); err != nil {
		p.t.Fatal(err)
	}
	var m messageTrace
	wait(p.t, "a message that is "+state, func() bool {
		all := p.messages(w.DevEUI(0))
		if len(all) == 0 {
			return false
		}
		m = p.message(all[0].ID)
		return m.Ways[0].State == state
	})
	if m.Received.IsZero() || m.Journalled.Before(m.Received) || m.DevEUI != w.DevEUI(0) || m.NetworkID != w.NetworkID {
		p.t.Errorf("%+v", m)
	}
	return m
}

// TestTrace asks what became of messages, of each sort that there is, while
// they are under way, after their end, and after a restart.
func TestTrace(t *testing.T) {
	w, p := opened(t, 1, nil)
	device := w.DevEUI(0)
	delivered := p.becomes(w, "delivered")
	if g := delivered.Ways[0]; g.Topic != "tpx/things/"+device+"/uplink" || !strings.HasPrefix(g.Session, "sluice-") || g.Tries != 1 ||
		g.ConnectionID != w.ConnectionID || g.Sent.Before(delivered.Journalled) || g.Acknowledged.Before(g.Sent) || !g.Over.IsZero() || g.Message != "" {
		t.Errorf("delivered: %+v", delivered)
	}

	// A pattern that does not resolve.
	put(t, p, w.ConnectionID, func(c map[string]any) {
		c["configuration"].(map[string]any)["uplinkTopicPattern"] = "t/{NoSuchField}"
	})
	p.applied(w.ConnectionID)
	failed := p.becomes(w, "failed")
	if g := failed.Ways[0]; g.Reason != "pattern" || g.Message == "" || g.Hint == "" || g.Over.IsZero() || !g.Acknowledged.IsZero() {
		t.Errorf("failed: %+v", failed)
	}

	// AWS is away.
	put(t, p, w.ConnectionID, func(c map[string]any) {
		c["configuration"].(map[string]any)["uplinkTopicPattern"] = "tpx/things/{DevEUI}/uplink"
	})
	p.applied(w.ConnectionID)
	w.AWS.RefuseConnects(0x88) // server unavailable
	w.Cut(0x8b)                // server shutting down
	wait(t, "the connection to notice", func() bool { return p.connection(w.ConnectionID).State != "OPENED" })
	waiting := p.becomes(w, "waiting")
	if g := waiting.Ways[0]; !strings.Contains(g.Message, "the connection is ") || !strings.Contains(g.Hint, "/connections/"+w.ConnectionID) {
		t.Errorf("waiting: %+v", waiting)
	}
	p.terminate()
	p = p.again()
	if g := p.message(waiting.ID).Ways[0]; g.State != "waiting" {
		t.Errorf("after a restart: %+v", g)
	}
	w.AWS.RefuseConnects(0)
	wait(t, "the message to be delivered", func() bool { return p.message(waiting.ID).Ways[0].State == "delivered" })
	p.opened(w.ConnectionID)
	p.traceExpired(w)
	p.traceUnmatched(w)

	p.terminate()
	p = p.again()
	ids := []string{delivered.ID, failed.ID, waiting.ID}
	for i, state := range []string{"delivered", "failed", "delivered"} {
		if g := p.message(ids[i]); g.Ways[0].State != state {
			t.Errorf("after a restart: %+v, want %s", g, state)
		}
	}
	if all := p.messages(device); len(all) != 5 || all[4].ID != delivered.ID {
		t.Errorf("after a restart: %+v", all)
	}
	// Of the last quarter of a second before a crash the outcomes may be missing.
	last := p.becomes(w, "unmatched")
	p.kill()
	p = p.again()
	if g := p.message(last.ID); g.Ways[0].State != "unmatched" {
		t.Errorf("after a crash: %+v", g)
	}
	status, body, err := p.api.Raw(t.Context(), "GET", "/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV", nil)
	if err != nil || status != http.StatusNotFound || !strings.Contains(string(body), "Ways are known since ") {
		t.Errorf("of an unknown message: %d %s %v", status, body, err)
	}
	p.terminate()
}

func (p *process) applied(id string) {
	p.t.Helper()
	wait(p.t, "the change to be applied", func() bool { c := p.connection(id); return c.Applied && c.State == "OPENED" })
}

// traceExpired has a message wait for longer than it may.
func (p *process) traceExpired(w *demo.World) {
	p.t.Helper()
	put(p.t, p, w.ConnectionID, func(c map[string]any) {
		c["configuration"].(map[string]any)["uplinkTimeValidity"] = "1s"
	})
	p.applied(w.ConnectionID)
	w.AWS.RefuseConnects(0x88)
	w.Cut(0x8b)
	wait(p.t, "the connection to notice", func() bool { return p.connection(w.ConnectionID).State != "OPENED" })
	if m := p.becomes(w, "expired"); m.Ways[0].Reason != "expired" || m.Ways[0].Hint == "" {
		p.t.Errorf("expired: %+v", m)
	}
	w.AWS.RefuseConnects(0)
	p.opened(w.ConnectionID)
}

// traceUnmatched has no flow want a message.
func (p *process) traceUnmatched(w *demo.World) {
	p.t.Helper()
	var flows []struct{ ID string }
	if err := p.api.Do(p.t.Context(), "GET", "/flows", nil, &flows); err != nil {
		p.t.Fatal(err)
	}
	for _, f := range flows {
		if err := p.api.Do(p.t.Context(), "DELETE", "/flows/"+f.ID, nil, nil); err != nil {
			p.t.Fatal(err)
		}
	}
	if m := p.becomes(w, "unmatched"); m.Ways[0].ConnectionID != "" || !strings.Contains(m.Ways[0].Message, "no flow") {
		p.t.Errorf("unmatched: %+v", m)
	}
}

// TestTraceOfCommands asks what became of commands.
func TestTraceOfCommands(t *testing.T) {
	w, p := opened(t, 1, nil)
	device := w.DevEUI(0)
	p.becomes(w, "delivered")
	command := func(state string) messageTrace {
		t.Helper()
		if err := w.Command(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		var found messageTrace
		wait(t, "a command that is "+state, func() bool {
			for _, m := range p.messages(device) {
				if m.Kind == "DevEUI_downlink" {
					found = m
					return m.Ways[0].State == state
				}
			}
			return false
		})
		found = p.message(found.ID)
		g := found.Ways[0]
		if found.Source != "tpx/things/"+device+"/downlink" || found.ConnectionID != w.ConnectionID || g.NetworkID != w.NetworkID || g.ConnectionID != "" {
			t.Errorf("%s: %+v", state, found)
		}
		return found
	}
	queued := command("queued")
	if g := queued.Ways[0]; g.Acknowledged.Before(queued.Journalled) || g.Tries != 1 {
		t.Errorf("queued: %+v", queued)
	}
	w.LRC.Set(thingparktest.Answer{Status: 350})
	rejected := command("rejected")
	if g := rejected.Ways[0]; g.Status != 350 || g.Message == "" || g.Over.IsZero() {
		t.Errorf("rejected: %+v", rejected)
	}
	// The cloud is told of it by a report, which has a way of its own.
	wait(t, "the report of the rejection to be delivered", func() bool {
		for _, m := range p.messages(device) {
			if m.Kind == "DevEUI_downlink_Rejected" {
				return m.Ways[0].State == "delivered"
			}
		}
		return false
	})
	p.terminate()
	p = p.again()
	if m := p.message(rejected.ID); m.Source == "" || m.Ways[0].State != "rejected" {
		t.Errorf("after a restart: %+v", m)
	}
	p.terminate()
}
