package journal

import (
	"fmt"
	"testing"

	"sluice"
)

func TestEntriesOfADeviceArriveInOrder(t *testing.T) {
	b := open(t, t.TempDir())
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 8})
	var ms []*sluice.Message
	for i := range 2000 {
		ms = append(ms, report(fmt.Sprint("D", i%20), i/20))
	}
	b.appendAll(ms)
	b.wants(Up("1"), sluice.Counters{Received: 2000, Delivered: 2000})
	wantOrder(t, got, 20, 100)
}

func wantOrder(t *testing.T, got *arrivals, devices, each int) {
	t.Helper()
	for d := range devices {
		name := fmt.Sprint("D", d)
		ids := got.order[name]
		if len(ids) != each {
			t.Fatalf("%d entries of %s arrived, want %d", len(ids), name, each)
		}
		for i, id := range ids {
			if want := fmt.Sprintf("%s-%d", name, i); id != want {
				t.Fatalf("entry %d of %s is %s", i, name, id)
			}
		}
	}
}
