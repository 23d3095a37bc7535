package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/tidwall/gjson"

	"sluice"
	"sluice/connector/awsiot/awsiottest"
	"sluice/network/thingpark/thingparktest"
)

// The application server of the simulated ThingPark.
const (
	asID  = "TWA_100009731.1.AS"
	asKey = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
)

// WorldOptions say what the world around a Sluice is like.
type WorldOptions struct {
	Devices int // simulated devices; default 50
	// AWS are the emulator's options.
	AWS awsiottest.Options
	// Watch sees what happens, beside the world's own ledger.
	Watch Watch
	// Clock is that of the simulated ThingPark, and of AWS where AWS has none
	// of its own; default time.Now.
	Clock sluice.Clock
}

// Watch sees each report and command. Its functions may be nil; they are
// called by several goroutines.
type Watch struct {
	Answered func(thingparktest.Result)     // a report was posted
	Arrived  func(Arrival)                  // an uplink reached the cloud application, one after another
	Sent     func(id string)                // AWS has taken a command
	Told     func(id string)                // the fate of a command reached the cloud application: its sluice-id
	Taken    func(d thingparktest.Downlink) // ThingPark has taken a downlink
}

// Arrival is an uplink at the cloud application.
type Arrival struct {
	Topic  string
	DevEUI string
	FCntUp uint32
	ID     string // sluice-id, the user property
	Time   time.Time
}

// World is everything around a Sluice: an AWS IoT emulator with a cloud
// application that watches every uplink, and a simulated ThingPark. It
// accounts for each report and each command.
type World struct {
	AWS *awsiottest.Server
	LRC *thingparktest.LRC
	// NetworkID and ConnectionID are those that Configure made.
	NetworkID, ConnectionID string

	devices  int
	watch    Watch
	clock    sluice.Clock
	cloud    *cloud
	ledger   *ledger
	fleet    *thingparktest.Fleet
	commands commandLedger
	sent     atomic.Uint64 // for the numbers of commands
	replayed atomic.Int64  // uplinks that were marked so

	mu    sync.Mutex
	fates map[string][][]byte // of commands, by kind
}

// NewWorld starts the world. Close ends it.
func NewWorld(ctx context.Context, o WorldOptions) (*World, error) {
	if o.Devices <= 0 {
		o.Devices = 50
	}
	w := &World{devices: o.Devices, watch: o.Watch.complete(), clock: o.Clock, ledger: newLedger(), fates: map[string][][]byte{}}
	if err := w.start(ctx, o); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// complete sets functions that do nothing where there are none.
func (w Watch) complete() Watch {
	if w.Answered == nil {
		w.Answered = func(thingparktest.Result) {}
	}
	if w.Arrived == nil {
		w.Arrived = func(Arrival) {}
	}
	if w.Sent == nil {
		w.Sent = func(string) {}
	}
	if w.Told == nil {
		w.Told = func(string) {}
	}
	if w.Taken == nil {
		w.Taken = func(thingparktest.Downlink) {}
	}
	return w
}

func (w *World) start(ctx context.Context, o WorldOptions) (err error) {
	if o.AWS.Clock == nil {
		o.AWS.Clock = o.Clock
	}
	if w.AWS, err = awsiottest.NewServer(o.AWS); err != nil {
		return fmt.Errorf("AWS emulator: %w", err)
	}
	deviation := time.Duration(0) // its own default
	if o.Clock != nil {
		deviation = -1 // a clock that steps does so between two who look at it
	}
	if w.LRC, err = thingparktest.NewLRC(thingparktest.LRCOptions{
		Keys:  map[string]string{asID: asKey},
		Clock: o.Clock, MaxTimeDeviation: deviation,
		OnDownlink: func(d thingparktest.Downlink) {
			w.watch.Taken(d)
			w.commands.arrive(d.CorrelationID)
		},
	}); err != nil {
		return fmt.Errorf("simulated ThingPark: %w", err)
	}
	certificate, err := w.AWS.CreateKeysAndCertificate(true)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair([]byte(certificate.CertificatePEM), []byte(certificate.PrivateKeyPEM))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(w.AWS.CAPEM()))
	w.cloud, err = dialCloud(ctx, w.AWS.MQTTAddr(), cloudID,
		&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: "localhost", MinVersion: tls.VersionTLS12}, w.uplink)
	return err
}

// uplink notes what arrives at the cloud application.
func (w *World) uplink(p *paho.Publish) {
	now, payload := time.Now(), p.Payload
	if p.Properties != nil && p.Properties.User.Get("sluice-replayed") == "true" {
		w.replayed.Add(1)
	}
	root := gjson.GetBytes(payload, "DevEUI_uplink")
	if !root.Exists() {
		for _, kind := range []string{"DevEUI_downlink_Queued", "DevEUI_downlink_Rejected"} {
			if gjson.GetBytes(payload, kind).Exists() {
				w.mu.Lock()
				w.fates[kind] = append(w.fates[kind], bytes.Clone(payload))
				w.mu.Unlock()
				w.watch.Told(sluiceID(p))
			}
		}
		return
	}
	a := Arrival{Topic: p.Topic, DevEUI: root.Get("DevEUI").String(), FCntUp: uint32(root.Get("FCntUp").Uint()), Time: now}
	a.ID = sluiceID(p)
	w.watch.Arrived(a)
	w.ledger.arrive(a.DevEUI, a.FCntUp, now)
}

// sluiceID is the id that a message carries, "" for none.
func sluiceID(p *paho.Publish) string {
	if p.Properties == nil {
		return ""
	}
	return p.Properties.User.Get("sluice-id")
}

// Close ends the world and waits for it.
func (w *World) Close() {
	if w.cloud != nil {
		w.cloud.close()
	}
	if w.LRC != nil {
		w.LRC.Close()
	}
	if w.AWS != nil {
		w.AWS.Close()
	}
}

// Configure makes a network, a connection to the emulator and a flow for
// every device, in the Sluice that api speaks to. change alters the
// connection's configuration before it is sent; it may be nil.
func (w *World) Configure(ctx context.Context, api REST, change func(configuration map[string]any)) error {
	var network, connection struct{ ID string }
	if err := api.Do(ctx, "POST", "/networks", map[string]any{
		"kind": "thingpark", "name": "simulated ThingPark",
		"configuration": map[string]any{"asId": asID, "asKey": asKey, "downlinkUrl": w.LRC.URL()},
	}, &network); err != nil {
		return err
	}
	if err := api.Do(ctx, "POST", "/connections", map[string]any{
		"connectorId": "actility-aws-iot", "name": "AWS emulator", "configuration": w.Configuration(change),
	}, &connection); err != nil {
		return err
	}
	if err := api.Do(ctx, "POST", "/flows", map[string]any{
		"name": "everything to AWS", "matchers": []any{},
		"connectors": []any{map[string]any{"id": "actility-aws-iot", "connectionId": connection.ID}},
	}, nil); err != nil {
		return err
	}
	w.NetworkID, w.ConnectionID = network.ID, connection.ID
	fleet, err := thingparktest.NewFleet(thingparktest.FleetOptions{
		URL: api.Base + "/ingest/" + network.ID, ASID: asID, ASKey: asKey, Devices: w.devices, Concurrency: 64, Clock: w.clock,
	})
	w.fleet = fleet
	return err
}

// Configuration is that of a connection to the emulator.
func (w *World) Configuration(change func(map[string]any)) map[string]any {
	c := w.AWS.Configuration()
	m := map[string]any{
		"description": c.Description, "uplinkTopicPattern": uplinkPattern, "downlinkTopicPattern": downlinkPattern,
		"deviceType": c.DeviceType, "region": c.Region, "accountPrefix": c.AccountPrefix,
		"accessKeyId": c.AccessKeyID, "secretAccessKey": c.SecretAccessKey,
		"certificateId": c.CertificateID, "certificate": c.Certificate, "privateKey": c.PrivateKey,
		"dataEndpoint": c.DataEndpoint, "controlEndpoint": c.ControlEndpoint, "caCertificate": c.CACertificate,
		"webSocketEndpoint": c.WebSocketEndpoint, "publishEndpoint": c.PublishEndpoint, "stsEndpoint": c.STSEndpoint,
	}
	if change != nil {
		change(m)
	}
	return m
}

// Load says how reports are posted; see [thingparktest.Load].
type Load = thingparktest.Load

// Post posts reports until the load is done or ctx ends, and accounts for
// them.
func (w *World) Post(ctx context.Context, l Load) error {
	return w.fleet.Run(ctx, l, func(r thingparktest.Result) {
		w.watch.Answered(r)
		w.ledger.answer(r.DevEUI, r.FCntUp, r.Start, r.Accepted())
	})
}

// Command publishes a command in AWS for device i, and accounts for it.
func (w *World) Command(ctx context.Context, i int) error {
	n := w.sent.Add(1)
	eui := w.fleet.DevEUI(i % w.devices)
	correlation := fmt.Sprintf("%016X", n)
	document := fmt.Sprintf(`{"DevEUI_downlink":{"Time":%q,"DevEUI":%q,"FPort":2,"payload_hex":"%08x","CorrelationID":%q}}`,
		time.Now().UTC().Format(time.RFC3339Nano), eui, n, correlation)
	if err := w.cloud.send(ctx, eui, []byte(document)); err != nil {
		return err
	}
	w.watch.Sent(correlation)
	w.commands.send(correlation)
	return nil
}

// Publish publishes a document as a command for a device, and does not account
// for it.
func (w *World) Publish(ctx context.Context, devEUI string, document []byte) error {
	return w.cloud.send(ctx, devEUI, document)
}

// Replayed is how many uplinks arrived that were marked as replayed.
func (w *World) Replayed() int { return int(w.replayed.Load()) }

// PostChanged posts the next report of device i with its document changed,
// and accounts for it.
func (w *World) PostChanged(ctx context.Context, i int, change func(document []byte) []byte) thingparktest.Result {
	report := w.fleet.Make(sluice.KindUplink, thingparktest.Typed, i)
	report.Body = change(report.Body)
	r := w.fleet.Send(ctx, report)
	w.watch.Answered(r)
	w.ledger.answer(r.DevEUI, r.FCntUp, r.Start, r.Accepted())
	return r
}

// Rejections returns the DevEUI_downlink_Rejected documents that arrived at the
// cloud application.
func (w *World) Rejections() [][]byte { return w.Fates("DevEUI_downlink_Rejected") }

// Fates returns the documents of a kind that tell of commands, as they arrived
// at the cloud application.
func (w *World) Fates(kind string) [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.fates[kind])
}

// DevEUI is that of device i, in upper case.
func (w *World) DevEUI(i int) string { return w.fleet.DevEUI(i) }

// Err tells why the cloud application has lost its link: then it is not known
// what arrived.
func (w *World) Err() error { return w.cloud.err() }

// Settled reports whether everything accepted and sent has arrived.
func (w *World) Settled() bool {
	_, missing, _ := w.commands.counts()
	return missing == 0 && w.ledger.totals().missing == 0
}

// Verdict is nil when every accepted report arrived, none twice (unless
// duplicates may be: a session was lost), each device's in order, and every
// command reached the simulated ThingPark once. Else it says all that is not so.
func (w *World) Verdict(duplicatesMayBe bool) error {
	t := w.ledger.totals()
	_, missing, twice := w.commands.counts()
	var wrong []string
	complain := func(n int, what string) {
		if n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s", n, what))
		}
	}
	complain(t.missing, "accepted reports did not arrive")
	complain(missing, "commands did not reach ThingPark")
	if !duplicatesMayBe {
		complain(t.twice, "reports arrived twice")
		complain(t.disordered, "reports arrived out of order")
		complain(twice, "commands reached ThingPark twice")
	}
	complain(int(w.AWS.Dropped()), "messages were dropped by the emulator before the subscriber")
	if err := w.cloud.err(); err != nil {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

// Cut ends the links of all clients but the cloud application, with a reason
// code of MQTT 5.
func (w *World) Cut(code byte) {
	w.AWS.Disconnect(code, func(id string) bool { return id != cloudID })
}

// Totals are the ledger's counts.
type Totals struct {
	Accepted, Refused, Arrived, Missing, Twice, Disordered int
	Commands, CommandsMissing                              int
}

// Totals returns the counts so far.
func (w *World) Totals() Totals {
	t := w.ledger.totals()
	sent, missing, _ := w.commands.counts()
	return Totals{
		Accepted: t.accepted, Refused: t.refused, Arrived: t.arrived, Missing: t.missing,
		Twice: t.twice, Disordered: t.disordered, Commands: sent, CommandsMissing: missing,
	}
}
