package demo

import (
	"fmt"
	"sync/atomic"
	"time"

	"sluice"
)

// watch counts something that is told by events.
type watch struct{ n atomic.Int64 }

func (w *watch) count() int64 { return w.n.Load() }

const header = `
 time    received  journalled  delivered  pending  lost  twice  downlinks      p50      p99`

func (d *demo) printAddresses(api REST, data string) {
	aws := d.world.AWS.Configuration()
	fmt.Fprintf(d.Out, `Sluice            %s   (API page: %s/docs)
  token           %s
  data            %s   (removed at the end)
AWS IoT emulator  %s MQTT, %s registry
ThingPark         simulated: %d devices, %d reports/s; downlinks at %s

`, api.Base, api.Base, api.Token, data, aws.DataEndpoint, aws.ControlEndpoint, d.world.devices, d.Rate, d.world.LRC.URL())
}

// event prints each change of state, and counts the sessions lost.
func (d *demo) event(e sluice.Event) {
	switch e.Type {
	case sluice.EventSessionLost:
		d.lost.n.Add(1)
	case sluice.EventThingCreated, sluice.EventSystemStarted:
		return // one a device: the list of devices shows them
	}
	line := fmt.Sprintf("%s  %-7s %s: %s", e.Time.Local().Format("15:04:05"), e.Level, e.Label, e.Detail)
	if e.Hint != "" {
		line += "\n                  → " + e.Hint
	}
	fmt.Fprintln(d.Out, line)
}

// printLine prints how things stand. Lost is what was accepted and is neither
// at the subscriber nor waiting in Sluice, now and a second ago: what AWS has
// acknowledged takes a moment to the subscriber.
func (d *demo) printLine() {
	t := d.world.ledger.totals()
	p50, p99 := d.world.ledger.recent()
	c := d.bridge.Counters(d.world.ConnectionID)
	_, _, twice := d.world.commands.counts()
	queued, _ := d.world.LRC.Count()
	missing := max(0, t.missing-int(c.Pending))
	lost := min(missing, d.missing)
	d.missing = missing
	fmt.Fprintf(d.Out, "%5s %11d %11d %10d %8d %5d %6d %10d %8s %8s\n",
		time.Since(d.begun).Truncate(time.Second), t.accepted, c.Received, c.Delivered, c.Pending, lost, t.twice+twice, queued,
		milliseconds(p50), milliseconds(p99))
}

func (d *demo) printSummary() {
	t := d.world.ledger.totals()
	sent, missing, _ := d.world.commands.counts()
	c := d.bridge.Counters(d.world.ConnectionID)
	busiest, clients := 0, 0
	for id, s := range d.world.AWS.ClientStats() {
		if s.Published > 0 && id != cloudID {
			clients++
			busiest = max(busiest, s.PeakRate)
		}
	}
	law := "holds"
	if !c.Holds() {
		law = "DOES NOT HOLD"
	}
	rate := float64(t.accepted) / d.posting.Seconds()
	fmt.Fprintf(d.Out, `
Reports    %d accepted, %d refused; %d arrived, %d lost, %d twice, %d out of order
           %.0f a second accepted, of %d asked for
Commands   %d sent, %d reached ThingPark
Latency    p50 %s, p99 %s from POST to arrival
Counters   received %d = delivered %d + pending %d + expired %d + failed %d + filtered %d: %s
AWS        %d clients, the busiest sent %d in one second (the quota is 100); %d discarded, %d sessions lost
`,
		t.accepted, t.refused, t.arrived, t.missing, t.twice, t.disordered,
		rate, d.Rate,
		sent, sent-missing,
		milliseconds(d.world.ledger.percentile(0.5)), milliseconds(d.world.ledger.percentile(0.99)),
		c.Received, c.Delivered, c.Pending, c.Expired, c.Failed, c.Filtered, law,
		clients, busiest, d.world.AWS.Discarded(), d.lost.count())
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
