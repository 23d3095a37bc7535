package connection

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"sluice"
)

// Earlier are the commands that were taken before this start. What the cloud
// had not seen acknowledged by then comes again.
type Earlier struct {
	// Taken are the last of them, oldest first.
	Taken []Taken
	// Crashed is when the last run was alive last; zero where it ended in
	// order, with all that it took acknowledged.
	Crashed time.Time
}

// Taken is a command that was taken.
type Taken struct {
	Connection  string
	Fingerprint string // of its message in the journal
	Received    time.Time
}

// RecallMost is how many commands are remembered of a connection.
const RecallMost = handoverMax

// keyOf is equal for a command and its redelivery.
func keyOf(c sluice.Command) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(c.Source+"\x00"+c.ID+"\x00"), c.Document...))
}

// identified and alike begin the fingerprint of a command: whether it has an
// id, or is known by its content alone.
const (
	identified = "id:"
	alike      = "as:"
)

// fingerprint keeps a command's key in its message, so that it is as durable
// as the command is.
func fingerprint(c sluice.Command, hasID bool) string {
	key := keyOf(c)
	kind := alike
	if hasID {
		kind = identified
	}
	return kind + base64.RawURLEncoding.EncodeToString(key[:])
}

// readFingerprint is the reverse; it is false for what is none.
func readFingerprint(text string) (key [sha256.Size]byte, hasID, ok bool) {
	if len(text) < len(identified) {
		return key, false, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(text[len(identified):])
	if err != nil || len(raw) != len(key) {
		return key, false, false
	}
	copy(key[:], raw)
	return key, text[:len(identified)] == identified, true
}

// recall remembers what was taken before this start, as if the link had been
// lost when it ended. now is the time by the clock that Received is of.
func (h *handover) recall(e Earlier, connection string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	over := &taking{done: make(chan struct{}), ok: true}
	close(over.done)
	var last []took
	for _, t := range e.Taken {
		key, hasID, ok := readFingerprint(t.Fingerprint)
		if t.Connection != connection || !ok {
			continue
		}
		c := took{key: key, at: h.clock().Add(t.Received.Sub(now)), taking: over}
		h.remember(c, hasID)
		if !e.Crashed.IsZero() && h.window > 0 && !t.Received.Before(e.Crashed.Add(-h.window)) {
			last = append(last, c)
		}
	}
	h.last = nil
	last = last[max(0, len(last)-unackedMax):]
	for _, c := range last {
		if h.again == nil {
			h.again = make(map[[sha256.Size]byte][]*taking)
		}
		h.again[c.key] = append(h.again[c.key], c.taking)
	}
}
