package test

import (
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot/awsiottest"
)

// TestAllQuotas has a pool under every quota of AWS at once: a load below the
// pace and commands, all links cut, and a changed configuration. Nothing is
// refused, delayed or discarded for a quota, and nothing is lost.
func TestAllQuotas(t *testing.T) {
	aws := emulator(t, awsiottest.Options{}.WithAWSQuotas())
	load, k := newFleet(50, 150, time.Minute), newTaken(t)
	b := bridged(t, aws, load, map[string]any{"poolSize": 4, "poolMin": 4, "downlinkSessions": 2}, k.take)
	send, sent := application(t, aws), 0
	command := func() { commandsFrom(send, sent, 20); sent += 20 }
	// flow waits until all is open and carries, and until AWS would take
	// another CONNECT of each client: it takes one a second.
	flow := func(after string) {
		t.Helper()
		wait(t, "all sessions "+after, func() bool { return b.whole() && inboxes(aws) == 2 })
		began, before := time.Now(), load.delivered.Load()
		command()
		wait(t, "reports and commands "+after, func() bool {
			return load.delivered.Load() >= before+100 && k.size() == sent && time.Since(began) > time.Second
		})
	}
	flow("at first")
	command()
	cut := aws.Cut(isOurs)
	wait(t, "the links that were cut", func() bool { return again(aws) == cut })
	flow("after the cut")
	command()
	if applied := b.events.Of(sluice.EventConnectionApplied); len(applied) > 0 {
		t.Fatalf("before the change: %+v", applied)
	}
	b.change(t, map[string]any{"uplinkTopicPattern": "changed/{DevEUI}/uplink"})
	wait(t, "the change to be in force", func() bool { return len(b.events.Of(sluice.EventConnectionApplied)) > 0 })
	flow("after the change")
	load.over.Store(true)
	load.await(t)
	k.once()
	within(t, aws)
	t.Logf("%d reports, %d commands; %d links were cut", load.delivered.Load(), sent, cut)
}

// whole reports whether all sessions that the pool is to have are open.
func (b *bridge) whole() bool {
	s, _ := b.Status("8")
	return s.State == sluice.StateOpened && s.Applied && len(s.Sessions) == s.Wanted
}

func isOurs(id string) bool { return id != "application" }

// again is how many of Sluice's clients have connected more than once.
func again(aws *awsiottest.Server) (n int) {
	for id, s := range aws.ClientStats() {
		if s.Connected && s.Connects > 1 && isOurs(id) {
			n++
		}
	}
	return n
}

func inboxes(aws *awsiottest.Server) (n int) {
	for id, s := range aws.ClientStats() {
		if s.Connected && isInbox(id) {
			n++
		}
	}
	return n
}

// within wants no quota of AWS to have been exceeded.
func within(t *testing.T, aws *awsiottest.Server) {
	t.Helper()
	for _, q := range []awsiottest.Quota{
		awsiottest.QuotaConnectRate, awsiottest.QuotaAccountConnectRate, awsiottest.QuotaClientID,
		awsiottest.QuotaPublishRate, awsiottest.QuotaAccountPublishRate, awsiottest.QuotaThroughput, awsiottest.QuotaInboundUnacked,
		awsiottest.QuotaPayload, awsiottest.QuotaTopic, awsiottest.QuotaQoS, awsiottest.QuotaRetained,
		awsiottest.QuotaFilter, awsiottest.QuotaFiltersAtOnce, awsiottest.QuotaSubscriptions,
		awsiottest.QuotaOutboundRate, awsiottest.QuotaOutboundUnacked, awsiottest.QuotaQueueRate, awsiottest.QuotaQueueSize,
	} {
		if n := aws.Exceeded(q); n > 0 {
			t.Errorf("%d times over a quota: %s", n, q)
		}
	}
	for id, s := range aws.ClientStats() {
		if s.Refused+s.Discarded+s.Dropped > 0 {
			t.Errorf("%s: %+v", id, s)
		}
	}
	if aws.Discarded()+aws.Dropped() > 0 {
		t.Errorf("%d publishes discarded, %d commands dropped", aws.Discarded(), aws.Dropped())
	}
}
