package journal

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"sluice"
)

const (
	// clockMargin is how much earlier than asked for the stream is read from:
	// a clock that was set back may have stored an entry before it was received.
	clockMargin = time.Minute
	// copiesWithin is how many messages of the stream may lie between two
	// copies of a report: a commit has no more.
	copiesWithin = maxBatch
	// recentIDs is how many ids each of the two halves of the memory of them
	// holds: more entries than a commit has.
	recentIDs = 2 * maxGroup
	// replayWindow and replayBytes bound what is read and not over.
	replayWindow = 1000
	replayBytes  = 4 << 20
)

// item is a message of a replay.
type item struct {
	m     *sluice.Message // nil: it is over
	seq   uint64
	index int
	begun bool // it is, or was, in the handler's hands
	// since is when it was tried first, with a connection.
	since    time.Time
	attempts int
}

// recent remembers the ids of the entries that were read last, and which of
// them are to be sent.
type recent struct{ now, before map[string]*item }

func (c *recent) get(id string) (it *item, known bool) {
	if it, known = c.now[id]; !known {
		it, known = c.before[id]
	}
	return it, known
}

func (c *recent) put(id string, it *item) {
	if c.now == nil || len(c.now) >= recentIDs {
		c.now, c.before = make(map[string]*item), c.now
	}
	c.now[strings.Clone(id)] = it
}

// find finds where in the stream the replay begins and ends. One that was
// interrupted begins a little before where it was, to know what it has met.
func (s *sender) find(ctx context.Context) error {
	last, err := s.lastReport(ctx)
	if err != nil {
		return err
	}
	s.end = last
	r := s.r.view()
	if s.goOn.seq > 0 {
		s.next = s.goOn.seq - min(s.goOn.seq-1, copiesWithin)
		return s.findHistory(ctx, r.Reached)
	}
	first, err := s.j.entries.since(ctx, upPrefix+"*", r.From.Add(-clockMargin))
	switch {
	case errors.Is(err, errNotFound):
		s.next = s.end + 1
	case err != nil:
		return err
	default:
		s.next = first.seq
	}
	s.goOn.seq = s.next
	return s.findHistory(ctx, r.From)
}

// lastReport is the sequence of the last message of reports.
func (s *sender) lastReport(ctx context.Context) (uint64, error) {
	last, err := s.j.entries.last(ctx, upPrefix+"*")
	if err == nil || errors.Is(err, errNotFound) {
		return last.seq, nil
	}
	info, err := s.j.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// findHistory notes where history begins, where that is too late.
func (s *sender) findHistory(ctx context.Context, from time.Time) error {
	first, err := s.j.entries.next(ctx, upPrefix+"*", 1)
	if errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	b, err := openBundle(first.data)
	ms := decodeBundle(b, err)
	if len(ms) == 0 || ms[0] == nil || !ms[0].Received.After(from) {
		return nil
	}
	s.r.change(func(rec *replayRecord) { rec.History = ms[0].Received })
	return nil
}

// fill reads on while there is room, at most one request's worth, and rests
// between two. It reports whether it would do more.
func (s *sender) fill(ctx context.Context) (more bool, err error) {
	for len(s.got) > 0 && s.room() {
		s.look(s.got[0])
		s.got = s.got[1:]
	}
	if len(s.got) > 0 || !s.room() || s.readAll {
		return false, nil
	}
	if s.next > s.end {
		return s.extend(ctx)
	}
	now := time.Now()
	if now.Before(s.rested) {
		return true, nil
	}
	s.rested = now.Add(scanPause)
	got, err := s.j.entries.batch(ctx, upPrefix+"*", s.next, maxFetch, maxFetchBytes)
	switch {
	case errors.Is(err, errNotFound): // up to end there is something that cannot be read
		s.next++
		s.damaged(1)
		return true, nil
	case err != nil:
		return false, err
	}
	s.got = got
	s.next = got[len(got)-1].seq + 1
	return true, nil
}

// extend looks once whether reports have come in meanwhile that were received
// before the end that was asked for.
func (s *sender) extend(ctx context.Context) (more bool, err error) {
	if s.extended {
		s.readAll = true
		return false, nil
	}
	last, err := s.lastReport(ctx)
	if err != nil {
		return false, err
	}
	s.extended, s.end = true, max(s.end, last)
	return true, nil
}

func (s *sender) room() bool { return s.window.len() < replayWindow && s.bytes < replayBytes }

// look looks at the entries of a message of the stream.
func (s *sender) look(msg stored) {
	name := Place(msg.subject)
	b, err := openBundle(msg.data)
	if err != nil {
		if msg.seq >= s.goOn.seq {
			s.damaged(1)
		}
		return
	}
	known := msg.seq < s.goOn.seq
	s.gap(name, &b, known)
	for index := 0; b.more(); index++ {
		number, body, err := b.take()
		passed := known || msg.seq == s.goOn.seq && index < s.goOn.index
		if number == 0 {
			if !passed {
				s.damaged(b.last() - b.next + 1)
			}
			break
		}
		m := new(sluice.Message)
		if err != nil || decodeEntry(m, number, body) != nil {
			if !passed {
				s.damaged(1)
			}
			continue
		}
		if passed {
			s.ids.put(m.ID, nil)
			continue
		}
		s.meet(name, m, msg.seq, index)
	}
	if !known {
		s.read = position{seq: msg.seq + 1}
	}
}

// gap counts the entries that are not there any more between two messages of
// a place.
func (s *sender) gap(name Place, b *bundle, known bool) {
	last, seen := s.numbers[name]
	s.numbers[name] = b.last()
	if seen && !known && b.first > last+1 {
		s.r.change(func(rec *replayRecord) { rec.Missing += b.first - last - 1 })
	}
}

// damaged counts entries that cannot be read, and tells of the first.
func (s *sender) damaged(n uint64) {
	first := false
	s.r.change(func(rec *replayRecord) {
		first = rec.Damaged == 0
		rec.Damaged += n
	})
	if first {
		s.j.replayEvent(s.r, sluice.LevelWarning, sluice.EventJournalGap, "Journal damaged",
			"A replay has met entries that cannot be read. It goes on with those that can; GET /connections/{id}/replay counts them.")
	}
}

// meet takes an entry up, if it is to be sent.
func (s *sender) meet(name Place, m *sluice.Message, seq uint64, index int) {
	it, known := s.ids.get(m.ID)
	if s.comesAnyway(name, m.Number) {
		if it != nil && !it.begun {
			s.dismiss(it) // of another place, and met before
		}
		s.ids.put(m.ID, nil)
		return
	}
	if known {
		return // a copy of it lies in another place
	}
	if !s.wants(m) {
		s.ids.put(m.ID, nil)
		return
	}
	m.Document = bytes.Clone(m.Document) // not the whole bundle
	it = &item{m: m, seq: seq, index: index}
	s.ids.put(m.ID, it)
	s.window.push(it)
	s.bytes += cost(m)
	s.r.mu.Lock()
	s.r.waiting++
	s.r.mu.Unlock()
	d := s.devices[m.DevEUI]
	if d == nil {
		d = &replayed{key: m.DevEUI}
		s.devices[m.DevEUI] = d
	}
	d.items.push(it)
	if d.items.len() == 1 {
		s.ready.push(d)
	}
}

// comesAnyway reports whether an entry still waits for the connection itself.
func (s *sender) comesAnyway(name Place, number uint64) bool {
	if name != s.place.name {
		return false
	}
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	return !s.place.done.has(number)
}

// wants reports whether a report is to be sent: as was asked for, and as the
// flows say. What Sluice has made itself was for one connection alone.
func (s *sender) wants(m *sluice.Message) bool {
	if m.IsFate() || m.IsCommand() || m.Received.Before(s.from) || !m.Received.Before(s.to) {
		return false
	}
	if len(s.only) > 0 && !s.only[m.DevEUI] {
		return false
	}
	_, ok := s.route(m)
	return ok
}

// route returns the driver of a report, and whether it goes to the connection.
func (s *sender) route(m *sluice.Message) (driver string, ok bool) {
	if s.j.o.Route == nil {
		return m.Driver, m.Connection == s.connection
	}
	return s.j.o.Route(s.connection, m)
}

// position is a place in the stream: an entry of a message.
type position struct {
	seq   uint64
	index int
}

// cursor is where the replay would go on: what lies before is over.
func (s *sender) cursor() position {
	for s.window.len() > 0 && (*s.window.front()).m == nil {
		s.window.pop()
	}
	if s.window.len() > 0 {
		front := *s.window.front()
		return position{front.seq, front.index}
	}
	if s.read.seq > 0 {
		return s.read
	}
	return s.goOn
}
