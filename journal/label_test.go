package journal

import (
	"strings"
	"testing"
)

func TestTheIDOfANetworkIsNotTold(t *testing.T) {
	for place, want := range map[Place]string{Down("secret"): "down", Up("1"): "up.1"} {
		if got := place.label(); got != want {
			t.Errorf("%s: %q", place, got)
		}
	}
	b := open(t, t.TempDir())
	p := newPlace(Down("secret"))
	b.j.lost(p, 1, 2, 2)
	b.j.shareEvent(p, 3)
	b.j.expiredEvent(p, 3)
	for _, e := range b.events.list {
		if strings.Contains(e.Detail+e.Hint, "secret") {
			t.Errorf("%+v", e)
		}
	}
	p.last = 3
	p.delivered = 9
	if err := p.check(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
