package test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"sluice/app/demo"
	"sluice/network/thingpark/thingparktest"
)

// TestChangeWithoutAGap changes a connection while 500 reports a second flow:
// first to another certificate, which takes over without a loss, though the old
// one is revoked as soon as the new one is in force; then to one that AWS does
// not know, which is not applied: the old sessions go on.
func TestChangeWithoutAGap(t *testing.T) {
	w, p := opened(t, 30, nil)
	stop := background(t, func(ctx context.Context) error { return w.Post(ctx, demo.Load{Rate: 500}) })
	flow := func(n int) {
		t.Helper()
		before := w.Totals().Arrived
		wait(t, "reports to arrive", func() bool { return w.Totals().Arrived >= before+n })
	}
	flow(200)

	use := func(active bool) (id string) {
		t.Helper()
		certificate, err := w.AWS.CreateKeysAndCertificate(active)
		if err != nil {
			t.Fatal(err)
		}
		put(t, p, w.ConnectionID, func(c map[string]any) {
			configuration := c["configuration"].(map[string]any)
			configuration["certificate"] = certificate.CertificatePEM
			configuration["privateKey"] = certificate.PrivateKeyPEM
			configuration["certificateId"] = certificate.ARN
		})
		return certificate.ID
	}
	before := p.connection(w.ConnectionID).Configuration["certificateId"].(string)
	use(true)
	wait(t, "the new certificate to be in force", func() bool {
		return strings.Contains(string(p.events("?type=connection.applied")), "connection.applied")
	})
	if id := before[strings.LastIndex(before, "/")+1:]; !w.AWS.DeactivateCertificate(id) {
		t.Fatal("the old certificate cannot be revoked")
	}
	if v := p.connection(w.ConnectionID); !v.Applied || v.State != "OPENED" {
		t.Errorf("after the change: %+v", v)
	}
	flow(400)

	unknown := use(false)
	wait(t, "the refusal to be said", func() bool {
		return strings.Contains(string(p.events("?type=connection.not_applied")), "connection.not_applied")
	})
	v := p.connection(w.ConnectionID)
	if v.Applied || v.State != "OPENED" {
		t.Errorf("with a certificate that AWS refuses: %+v", v)
	}
	t.Logf("reason: %s", v.Reason)
	if !strings.Contains(v.Reason, "certificate") {
		t.Errorf("the reason does not name the certificate: %s", v.Reason)
	}
	flow(400)

	// Once AWS accepts it, it is in force without another PUT.
	w.AWS.ActivateCertificate(unknown)
	wait(t, "the change to be applied", func() bool { return p.connection(w.ConnectionID).Applied })
	flow(200)
	stop()
	settled(t, w, true) // what was under way when the old one was revoked may have come twice
	if lost := strings.Count(string(p.events("?type=connection.closed")), "connection.closed"); lost != 0 {
		t.Errorf("the connection was closed %d times", lost)
	}
	p.terminate()
}

// TestChangeOfProtocol changes the protocol while reports flow: from SSL to WSS,
// by a PUT that leaves the certificate out, to HTTPS and back to SSL, by one
// that leaves it out too: it was kept. Nothing is lost, nor comes twice, and
// commands arrive under each.
func TestChangeOfProtocol(t *testing.T) {
	w, p := opened(t, 20, nil)
	stop := background(t, func(ctx context.Context) error { return w.Post(ctx, demo.Load{Rate: 200}) })
	wait(t, "the first reports", func() bool { return w.Totals().Arrived >= 100 })
	applied := func() int {
		return strings.Count(string(p.events("?type=connection.applied")), `"connection.applied"`)
	}
	for i, protocol := range []string{"WSS", "HTTPS", "SSL"} {
		put(t, p, w.ConnectionID, func(c map[string]any) {
			configuration := c["configuration"].(map[string]any)
			for _, name := range []string{"certificateId", "certificate", "privateKey"} {
				delete(configuration, name)
			}
			configuration["protocol"] = protocol
		})
		wait(t, "the change to be in force", func() bool { return applied() == i+1 && p.connection(w.ConnectionID).Applied })
		if v := p.connection(w.ConnectionID); v.State != "OPENED" || v.Configuration["certificate"] != "*****" || v.Configuration["protocol"] != protocol {
			t.Errorf("%+v", v)
		}
		before := w.Totals().Arrived
		wait(t, "reports to arrive", func() bool { return w.Totals().Arrived >= before+100 })
		if err := w.Command(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	settled(t, w, false)
	p.terminate()
}

func (p *process) events(query string) []byte {
	p.t.Helper()
	status, body, err := p.api.Raw(p.t.Context(), "GET", "/events"+query, nil)
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("GET /events%s: %d %s %v", query, status, body, err)
	}
	return body
}

// TestAlarmsAreChecked sends alarms that cannot be meant, beside other faults.
func TestAlarmsAreChecked(t *testing.T) {
	w, data, listen := world(t, 1), t.TempDir(), freePort(t)
	p := serve(t, data, listen)
	status, answer, err := p.api.Raw(t.Context(), "POST", "/connections", map[string]any{
		"connectorId": "actility-aws-iot", "name": "x", "configuration": w.Configuration(func(c map[string]any) { c["poolSize"] = 0 }),
		"alarms": []any{map[string]any{"startTime": "25:00", "endTime": "18:00", "timezone": "Mars/Base", "uplinkRateMinPerHour": -1}},
	})
	if err != nil || status != http.StatusBadRequest {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	for _, path := range []string{"alarms[0].startTime", "alarms[0].timezone", "alarms[0].uplinkRateMinPerHour", "configuration.poolSize"} {
		if !strings.Contains(string(answer), `"path":"`+path+`"`) {
			t.Errorf("nothing is said of %s: %s", path, answer)
		}
	}
	p.terminate()
}

// TestSecretsAreSealed looks for secrets in everything that Sluice writes and
// says, and loses the key.
func TestSecretsAreSealed(t *testing.T) {
	w, data, listen := world(t, 5), t.TempDir(), freePort(t)
	p := serve(t, data, listen, "--log-level", "debug")
	if err := w.Configure(t.Context(), p.api, func(c map[string]any) {
		c["downlinkAsId"], c["downlinkAsKey"] = "TWA_1.1.AS", "ffeeddccbbaa99887766554433221100"
	}); err != nil {
		t.Fatal(err)
	}
	p.opened(w.ConnectionID)
	if err := w.Post(t.Context(), demo.Load{Rate: 100, Count: 50}); err != nil {
		t.Fatal(err)
	}
	settled(t, w, false)
	// A command that brings its own key: the key is not journalled in clear.
	const ownKey = "0123456789abcdef0123456789abcdef"
	command := map[string]any{"DevEUI_downlink": map[string]any{
		"DevEUI": w.DevEUI(0), "FPort": "3", "payload_hex": "00", "AS_ID": "TWA_9.9.AS", "AS_KEY": ownKey,
	}}
	if status, body, err := p.api.Raw(t.Context(), "POST", p.downlinkPath(w.ConnectionID), command); err != nil || status != 202 {
		t.Fatalf("POST /downlinkMessages: %d %s %v", status, body, err)
	}
	wait(t, "the downlink to be refused", func() bool { _, refused := w.LRC.Count(); return refused > 0 })

	configuration := w.Configuration(nil)
	key := configuration["privateKey"].(string)
	secrets := []string{
		configuration["secretAccessKey"].(string), strings.Split(key, "\n")[1],
		"ffeeddccbbaa99887766554433221100", ownKey, "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
	}
	_, answer, err := p.api.Raw(t.Context(), "GET", "/connections", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, networks, err := p.api.Raw(t.Context(), "GET", "/networks", nil)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{
		"GET /connections": string(answer), "GET /networks": string(networks), "GET /events": string(p.events("")),
		"the log": p.output(),
	}
	p.terminate()
	err = filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var text []byte
			text, err = os.ReadFile(path)
			said[path] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range said {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds a secret in clear", where)
			}
		}
	}

	if err := os.Remove(filepath.Join(data, "secret.key")); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "serve", "--data", p.data, "--listen", listen).CombinedOutput()
	if err == nil {
		t.Fatal("started although the key is lost")
	}
	t.Logf("with the key lost:\n%s", out)
	for _, want := range []string{"AWS emulator", "privateKey", "secretAccessKey", "simulated ThingPark", "asKey", "--forget-secrets"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	p = serve(t, data, listen, "--forget-secrets")
	put(t, p, w.ConnectionID, func(c map[string]any) { c["configuration"] = w.Configuration(nil) })
	p.opened(w.ConnectionID)
	p.terminate()
}

func (p *process) downlinkPath(id string) string {
	p.t.Helper()
	_, answer, err := p.api.Raw(p.t.Context(), "GET", "/connections/"+id, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	path := gjson.GetBytes(answer, "downlinkUrl").String()
	return strings.TrimPrefix(path, p.api.Base)
}

// TestRefusedCommandIsReported sends a command that the network server
// refuses: the application is told, on the topic of the device's uplinks.
func TestRefusedCommandIsReported(t *testing.T) {
	w, p := opened(t, 2, nil)
	if err := w.Post(t.Context(), demo.Load{Rate: 100, Count: 4}); err != nil {
		t.Fatal(err)
	}
	settled(t, w, false)
	w.LRC.Set(thingparktest.Answer{Status: 350, Text: "Downlink counter value already used. Expected=1238"})
	if err := w.Command(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	wait(t, "the rejection to arrive in AWS", func() bool { return len(w.Rejections()) > 0 })
	got := gjson.GetBytes(w.Rejections()[0], "DevEUI_downlink_Rejected")
	if got.Get("DevEUI").String() != w.DevEUI(0) || got.Get("DeliveryStatus").Int() != 350 ||
		!strings.Contains(got.Get("DownlinkRejectionCause").String(), "Expected=1238") ||
		got.Get("CorrelationID").String() != "0000000000000001" {
		t.Errorf("rejection = %s", got.Raw)
	}
	if c := p.counters(w.ConnectionID); !c.holds() {
		t.Errorf("counters = %+v", c)
	}
	p.terminate()
}
