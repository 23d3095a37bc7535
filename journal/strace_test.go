package journal

import (
	"bufio"
	"io"
	"regexp"
	"strings"
	"testing"
)

var (
	traceLine    = regexp.MustCompile(`^(\d+) +(.*)$`)
	traceResumed = regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	traceOpen    = regexp.MustCompile(`^openat\([^"]*"([^"]*)", ([A-Z_|]+).*= (\d+)<`)
	traceCall    = regexp.MustCompile(`^(\w+)\((\d+)<([^>]*)>`)
	traceID      = regexp.MustCompile(`\d{19}-\d+-\d+`)
)

// tracer follows which ids are on the disk. A call that strace shows in two
// parts counts when its second part comes: it has returned then. Only the
// line "acked" counts from its first part on.
type tracer struct {
	t      *testing.T
	synced map[string]bool     // whether a descriptor writes through, by number
	dirty  map[string][]string // the ids written to a block and not synced, by file
	onDisk map[string]bool
	acked  int
}

func checkTrace(t *testing.T, r *bufio.Reader) {
	t.Helper()
	c := &tracer{t: t, synced: map[string]bool{}, dirty: map[string][]string{}, onDisk: map[string]bool{}}
	begun := map[string]string{}
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		m := traceLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		thread, call := m[1], m[2]
		switch {
		case strings.HasSuffix(call, "<unfinished ...>"):
			begun[thread] = strings.TrimSuffix(call, "<unfinished ...>")
			c.begins(call)
		case traceResumed.MatchString(call):
			c.ends(begun[thread] + traceResumed.ReplaceAllString(call, ""))
			delete(begun, thread)
		default:
			c.begins(call)
			c.ends(call)
		}
	}
	if c.acked < 200 {
		t.Errorf("%d acknowledgements are in the trace, want 200", c.acked)
	}
}

// begins sees a call when it is made.
func (c *tracer) begins(call string) {
	if !strings.HasPrefix(call, "write(1<") || !strings.Contains(call, acked) {
		return
	}
	id := traceID.FindString(call)
	c.acked++
	if !c.onDisk[id] {
		c.t.Errorf("%s is acknowledged and not on the disk", id)
	}
}

// ends sees a call when it has returned.
func (c *tracer) ends(call string) {
	if m := traceOpen.FindStringSubmatch(call); m != nil {
		c.synced[m[3]] = strings.Contains(m[2], "O_SYNC") || strings.Contains(m[2], "O_DSYNC")
		return
	}
	m := traceCall.FindStringSubmatch(call)
	if m == nil || !strings.Contains(m[3], "/streams/"+streamEntries+"/msgs/") || !strings.HasSuffix(m[3], ".blk") {
		return
	}
	name, descriptor, file := m[1], m[2], m[3]
	switch name {
	case "write", "pwrite64", "writev":
		ids := traceID.FindAllString(call, -1)
		if !c.synced[descriptor] {
			c.dirty[file] = append(c.dirty[file], ids...)
			return
		}
		for _, id := range ids {
			c.onDisk[id] = true
		}
	case "fsync", "fdatasync":
		for _, id := range c.dirty[file] {
			c.onDisk[id] = true
		}
		delete(c.dirty, file)
	}
}
