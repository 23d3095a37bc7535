package connection

import (
	"testing"

	"sluice"
)

// A connection is asked to look at its things; where it cannot, it says why.
func TestRefresh(t *testing.T) {
	s := New(Options{})
	if _, err := s.Refresh("9"); sluice.CodeOf(err) != sluice.CodeNotFound {
		t.Errorf("unknown: %v", err)
	}
	r := &runner{}
	s.runners["8"] = r
	if _, err := s.Refresh("8"); sluice.CodeOf(err) != sluice.CodeConflict {
		t.Errorf("not active: %v", err)
	}
	r.serving.Store(&pool{dialer: &fakeDialer{}})
	if _, err := s.Refresh("8"); sluice.CodeOf(err) != sluice.CodeConflict {
		t.Errorf("no registry: %v", err)
	}
	r.serving.Store(&pool{dialer: refreshingDialer{&fakeDialer{}}})
	if n, err := s.Refresh("8"); n != 7 || err != nil {
		t.Errorf("%d things, %v", n, err)
	}
}

type refreshingDialer struct{ *fakeDialer }

func (refreshingDialer) Refresh() (int, error) { return 7, nil }
