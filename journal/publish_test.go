package journal

import (
	"fmt"
	"testing"
	"time"
)

// What was never sent is not in the stream: neither the message that the
// connection refused nor those behind it may pass for committed.
func TestNothingIsCommittedOverAClosedConnection(t *testing.T) {
	for name, publish := range map[string]func(*publisher, []outgoing){
		"each":   func(p *publisher, ms []outgoing) { p.each(ms, true, 0, time.Minute) },
		"atomic": func(p *publisher, ms []outgoing) { p.atomic(ms, 0, time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, t.TempDir())
			b.stop()
			conn, err := b.server.Connect()
			if err != nil {
				t.Fatal(err)
			}
			p, err := newPublisher(conn)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			ms := make([]outgoing, 4)
			for i := range ms {
				ms[i] = outgoing{subject: string(Up(fmt.Sprint(i))), data: []byte("x")}
			}
			publish(p, ms)
			for i, m := range ms {
				if m.err == nil {
					t.Errorf("message %d has no error", i)
				}
			}
		})
	}
}
