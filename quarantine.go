package sluice

import "time"

// Quarantined is a message that can never be delivered as things stand: it is
// kept, with the reason, until somebody sends it again or deletes it.
type Quarantined struct {
	// Message is the message; its Number is what it is found by. In a list
	// it has no Document.
	Message *Message
	// Reason, Detail (a sentence, without secrets), Hint and Status are those
	// of the [Failure].
	Reason Reason
	Detail string
	Hint   string
	Status int
	// Time is when it came into quarantine.
	Time time.Time
	// Size is that of the document, in bytes.
	Size int
}

// Quarantines reports whether a report that failed with err is kept in
// quarantine: one that is skipped because its thing is missing is not.
func Quarantines(err error) bool {
	verdict, _ := VerdictOf(err)
	return verdict == Permanent && ReasonOf(err) != ReasonThingMissing
}
