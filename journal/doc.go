// Package journal is the durable log of every report that was accepted and
// every command that was taken, on a JetStream file stream, and its readers:
// the only room that retries, delays, expires and gives up.
//
// # Places
//
// A [Place] is a subject of the stream SLUICE: one for each connection
// (up.<connection>), one for what no flow wanted (up.none) and one for each
// network (down.<network>). Its entries carry the place's own running number,
// 1, 2, 3 and so on. Entries that are committed together lie in one message of
// the stream, a bundle: what a commit costs is the message and its fsync, not
// the entries.
//
// # Appending
//
// [Journal.Append] returns nil once all its entries are on the disk: the
// stream syncs before it acknowledges, and [Options].Names the names of its
// files. One goroutine commits; while it does,
// the next group gathers. A group for a few places is published message by
// message, one for many as an atomic batch, which costs four fsyncs whatever
// its size. Each publish names the sequence it expects the stream to be at, so
// a refused or late one can leave no gap in the numbers and give none twice.
// When an outcome stays unknown, the callers get an error (the entries may
// still be in), and the numbers are read again before the next commit.
//
// # Reading
//
// [Journal.Read] hands the entries of a place to a handler, at most one of a
// device at a time, in the order of their numbers; devices overtake each
// other. A reader that has caught up is handed new entries by the committer
// from memory. One that is behind reads the stream from its own position by
// direct gets: there are no consumers. A device that waits holds up its own
// entries only; when many of its entries wait, their documents are dropped
// from memory and read again when their turn comes.
//
// # Book and law
//
// The book of a place is its position (a floor up to which all is done, the
// set that is done above it, and a bounded list of entries below it that are
// parked: refused for so long that the floor was raised over them) and its
// counters, in one record, changed under one lock:
//
//	received = delivered + pending + expired + failed + filtered
//
// received is the last number (but see Quarantine), pending is what the position says is not done,
// and the others are counted one by one, so the law is a check and not a
// definition. Books are written to the stream BOOKS, several times a second
// while they change, without waiting for the disk (it is synced each second).
// After a crash a book may lie behind: what was done since is handed out again,
// in order; nothing is lost.
//
// # Replay
//
// [Journal.StartReplay] sends what the stream holds of a time range, from all
// places, to one connection: what Options.Route says goes there now. Its
// messages take the turns of their devices in the reader of the connection's
// place, when nothing live waits, so what holds of a device holds with them
// too. They are counted in the replay alone, whose record lies in the stream
// REPLAYS: it goes on where it was. History that it has still to read is kept
// while there is room.
// # Quarantine
//
// A report that can never be delivered is written to the stream QUARANTINE,
// with the reason, before it is counted as failed. [Journal.Retry] appends it
// again as the last entry of its place: two entries are one message then, and
//
//	received = last number - retried
//	failed   = all that failed - retried
//
// The entry names the one that it sends again, so that what landed before a
// crash and is not in the book is counted when the journal is opened. See the
// type ward, and docs/decisions/0010-quarantine.md.
//
// # Disk
//
// Below the reserve Append refuses, and history is trimmed to make room. A
// place that holds more than its share gives up its own oldest entries, which
// count as expired. When the stream takes nothing more although there is room,
// as after a write error, the server below is restarted. What was the cost of
// an end that was not orderly is told at Open, and [Journal.Check] compares
// counters, positions and the stream once a minute.
//
// # Damage
//
// The blocks of the stream are verified before the server reads them, and
// what is whole in them is kept (see internal/natsd). A gap in the numbers is never ours: it is damage on the disk. The missing
// entries are counted as failed and told in an event. That holds for a
// reader that meets a gap, for an entry whose checksum is wrong, and for a
// place whose stream ends before what its book knows.
package journal
