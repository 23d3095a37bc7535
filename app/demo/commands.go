package demo

import "sync"

// commandLedger accounts for commands by their CorrelationID.
type commandLedger struct {
	mu      sync.Mutex
	sent    int
	twice   int
	waiting map[string]bool // sent, not arrived yet
	arrived map[string]bool
}

func (l *commandLedger) ready() {
	if l.waiting == nil {
		l.waiting, l.arrived = map[string]bool{}, map[string]bool{}
	}
}

// send notes that AWS has taken a command.
func (l *commandLedger) send(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready()
	l.sent++
	if !l.arrived[id] {
		l.waiting[id] = true
	}
}

// arrive notes that ThingPark has taken a downlink.
func (l *commandLedger) arrive(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready()
	if l.arrived[id] {
		l.twice++
	}
	l.arrived[id] = true
	delete(l.waiting, id)
}

func (l *commandLedger) counts() (sent, missing, twice int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent, len(l.waiting), l.twice
}
