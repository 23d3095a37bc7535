package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/internal/natsd"
)

// Damage is tried in child processes, which run into a limit instead of
// filling the machine's memory. A child takes cases from its standard input, a
// line of JSON each, and answers each with a line.
const damageChild = "SLUICE_JOURNAL_TEST_DAMAGE"

// damageMemory is the limit, in KiB of address space.
const damageMemory = 6_000_000

// damageTime bounds a case.
const damageTime = 30 * time.Second

// slowTests names the variable that asks for all cases.
const slowTests = "SLUICE_SLOW"

// In the journal that is damaged, entries 1 to damagedDelivered are delivered.
// Those from damagedBundle on lie in one message, the others in one each.
const (
	damagedEntries   = 18
	damagedDelivered = 4
	damagedBundle    = 13
)

// damageCase is damage to one file of a copy of a directory.
type damageCase struct {
	Dir  string // the directory
	File string // the file below it
	Op   string // "flip", "truncate" or "remove"
	At   int    // the byte that is flipped, or the size that is left
	Bit  int
	// Lost is how many entries it may cost at most.
	Lost uint64
}

func (c damageCase) apply(dir string) error {
	name := filepath.Join(dir, c.File)
	switch c.Op {
	case "remove":
		return os.Remove(name)
	case "truncate":
		return os.Truncate(name, int64(c.At))
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	data[c.At] ^= 1 << c.Bit
	return os.WriteFile(name, data, 0o600)
}

// damageMain is the child.
func damageMain() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var c damageCase
		err := json.Unmarshal(lines.Bytes(), &c)
		if err == nil {
			err = c.run()
		}
		if err != nil {
			fmt.Printf("%s: %q\n", lines.Bytes(), err)
			continue
		}
		fmt.Println("ok")
	}
}

// run damages a copy of the directory, opens the journal on it, and says what
// is wrong with what it then does.
func (c damageCase) run() error {
	dir, err := os.MkdirTemp(filepath.Dir(c.Dir), "case")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := copyDir(dir, c.Dir); err != nil {
		return err
	}
	if err := c.apply(dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), damageTime)
	defer cancel()
	server, err := natsd.Start(ctx, natsd.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer server.Close()
	conn, err := server.Connect()
	if err != nil {
		return err
	}
	told := &events{}
	j, err := Open(ctx, Options{Conn: conn, Events: told})
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 2)
	defer func() { end(); <-ended; <-ended }()
	got := &arrivals{}
	go func() { ended <- j.Run(running) }()
	go func() { ended <- j.Read(running, Up("1"), ReadOptions{Handler: got}) }()
	if err := j.Append(ctx, report("new", 0)); err != nil {
		return err
	}
	return c.judge(ctx, j, got, told)
}

// judge waits until all is over and compares.
func (c damageCase) judge(ctx context.Context, j *Journal, got *arrivals, told *events) error {
	var n sluice.Counters
	for n.Received == 0 || n.Pending > 0 {
		if n = j.Counters(Up("1")); !n.Holds() {
			return fmt.Errorf("the law is broken: %+v", n)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("it does not come to an end: %+v", n)
		}
		time.Sleep(time.Millisecond)
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	if got.ids["new-0"] != 1 {
		return fmt.Errorf("a new entry arrived %d times", got.ids["new-0"])
	}
	var missing uint64
	for i := damagedDelivered; i < damagedEntries; i++ {
		if got.ids[report("D", i).ID] == 0 {
			missing++
		}
	}
	for missing > 0 && told.count(sluice.EventJournalGap) == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // it is told right after it was counted
	}
	switch {
	case missing > c.Lost:
		return fmt.Errorf("%d entries are missing, not at most %d: %+v", missing, c.Lost, n)
	case n.Failed < missing:
		return fmt.Errorf("%d entries are missing, %d are counted as failed", missing, n.Failed)
	case missing > 0 && told.count(sluice.EventJournalGap) == 0:
		return fmt.Errorf("nothing was told of %d entries that are missing", missing)
	case n.Received < damagedEntries+1-missing:
		return fmt.Errorf("not all are counted: %+v", n)
	}
	return nil
}

func copyDir(to, from string) error { return os.CopyFS(to, os.DirFS(from)) }

// damagedDir makes the directory whose copies are damaged. Without orderly it
// is as a crash leaves it.
func damagedDir(t *testing.T, orderly bool) string {
	t.Helper()
	dir := t.TempDir()
	b := open(t, filepath.Join(dir, "work"))
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	b.append("D", 0, damagedDelivered)
	b.wants(Up("1"), sluice.Counters{Received: damagedDelivered, Delivered: damagedDelivered})
	stop()
	b.append("D", damagedDelivered, damagedBundle-1-damagedDelivered)
	var ms []*sluice.Message
	for i := damagedBundle - 1; i < damagedEntries; i++ {
		ms = append(ms, report("D", i))
	}
	b.appendAll(ms)
	p := b.j.place(Up("1"))
	p.mu.Lock()
	book := p.appendBook(nil)
	p.mu.Unlock()
	until(t, "the book is written", func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "work/jetstream/*/streams", streamBooks, "msgs/*.blk"))
		if err != nil || len(found) != 1 {
			return false
		}
		data, err := os.ReadFile(found[0])
		return err == nil && bytes.Contains(data, book)
	})
	if orderly {
		b.close()
	}
	template := filepath.Join(dir, "template")
	if err := copyDir(template, filepath.Join(dir, "work")); err != nil {
		t.Fatal(err)
	}
	return template
}

// damageBinary is this test binary without the race detector, under which
// nothing runs within a limit of memory.
func damageBinary(t *testing.T) string {
	t.Helper()
	if !raceEnabled {
		return os.Args[0]
	}
	name := filepath.Join(t.TempDir(), "journal.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", name, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the child: %v\n%s", err, out)
	}
	return name
}

// runDamage runs cases in children, one for each processor.
func runDamage(t *testing.T, cases []damageCase) {
	t.Helper()
	binary, n := damageBinary(t), runtime.GOMAXPROCS(0)
	failed := make(chan []string, n)
	for i := range n {
		go func() {
			var some []damageCase
			for k := i; k < len(cases); k += n {
				some = append(some, cases[k])
			}
			failed <- runDamageChild(t, binary, some)
		}()
	}
	var all []string
	for range n {
		all = append(all, <-failed...)
	}
	t.Logf("%d cases, %d failed", len(cases), len(all))
	for i, f := range all {
		if i == 20 {
			break
		}
		t.Error(f)
	}
}

// runDamageChild runs cases in a child, and in another one when it dies.
func runDamageChild(t *testing.T, binary string, cases []damageCase) (failed []string) {
	for len(cases) > 0 {
		var in, stderr bytes.Buffer
		for _, c := range cases {
			line, err := json.Marshal(c)
			if err != nil {
				return append(failed, err.Error())
			}
			in.Write(append(line, '\n'))
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", fmt.Sprintf("ulimit -v %d && exec %q", damageMemory, binary))
		cmd.Env = append(os.Environ(), damageChild+"=1")
		cmd.Stdin, cmd.Stderr = &in, &stderr
		out, err := cmd.Output()
		answers := strings.Split(strings.TrimSpace(string(out)), "\n")
		answers = slices.DeleteFunc(answers, func(s string) bool { return s == "" })
		for _, a := range answers {
			if a != "ok" {
				failed = append(failed, a)
			}
		}
		cases = cases[min(len(answers), len(cases)):]
		if len(cases) > 0 {
			end := stderr.String()
			failed = append(failed, fmt.Sprintf("%+v: the child died: %v: %s", cases[0], err, end[:min(len(end), 3000)]))
			cases = cases[1:]
			if len(failed) > 20 {
				return failed
			}
		}
	}
	return failed
}

// streamFiles returns the files of a directory below a pattern, with how large
// they are.
func streamFiles(t *testing.T, dir, pattern string) map[string]int {
	t.Helper()
	files := map[string]int{}
	found, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(dir, f)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = int(info.Size())
	}
	return files
}

// A flipped bit, a file that is cut short and one that is missing cost what
// they hit and no more, are counted and told, and do not keep the journal from
// working at once.
func TestDamageIsBounded(t *testing.T) {
	all := os.Getenv(slowTests) != ""
	for _, orderly := range []bool{true, false} {
		t.Run(fmt.Sprintf("orderly=%v", orderly), func(t *testing.T) {
			dir := damagedDir(t, orderly)
			var cases []damageCase
			for file, size := range streamFiles(t, dir, streamEntries+"/msgs/*.blk") {
				cases = append(cases, blockCases(t, dir, file, size, all)...)
			}
			for file, size := range streamFiles(t, dir, streamBooks+"/msgs/*.blk") {
				cases = append(cases, fileCases(dir, file, size, all)...)
			}
			for _, pattern := range []string{"*/*.inf", "*/*.sum", "*/msgs/index.db"} {
				for file, size := range streamFiles(t, dir, pattern) {
					cases = append(cases, fileCases(dir, file, size, all)...)
				}
			}
			runDamage(t, cases)
		})
	}
}

// blockCases damages the block with the entries. The messages are about equal
// in size but for the last one, the bundle.
func blockCases(t *testing.T, dir, file string, size int, all bool) (cases []damageCase) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	var starts []int // of the records, by their subject
	for at := 0; ; {
		i := bytes.Index(data[at:], []byte("up.1"))
		if i < 0 {
			break
		}
		if at += i; !slices.Contains([]byte(`"1`), data[at-1]) {
			starts = append(starts, at-22)
		}
		at++
	}
	if len(starts) != damagedBundle {
		t.Fatalf("%d records", len(starts))
	}
	const bundle = damagedEntries - damagedBundle + 1
	add := func(op string, at, bit int, lost uint64) {
		cases = append(cases, damageCase{Dir: dir, File: file, Op: op, At: at, Bit: bit, Lost: lost})
	}
	flip := func(from, to int, lost uint64) {
		for at := from; at < to; at++ {
			head := at-from < 22+4+4+8
			for bit := range 8 {
				if all || head && bit%3 == at%3 || (at*8+bit)%97 == 0 {
					add("flip", at, bit, lost)
				}
			}
		}
	}
	flip(starts[5], starts[6], 1)
	flip(starts[6], starts[7], 1)
	flip(starts[damagedBundle-2], starts[damagedBundle-1], 1)
	flip(starts[damagedBundle-1], size, bundle)
	for at := starts[damagedBundle-2]; at < size; at++ {
		switch {
		case !all && at%29 != 0:
		case at < starts[damagedBundle-1]:
			add("truncate", at, 0, bundle+1)
		default:
			add("truncate", at, 0, bundle)
		}
	}
	add("truncate", 0, 0, damagedEntries)
	add("remove", 0, 0, damagedEntries)
	return cases
}

// fileCases damages another file, which costs no entry.
func fileCases(dir, file string, size int, all bool) (cases []damageCase) {
	for at := range size {
		if all || at%29 == 0 || at == size-1 {
			cases = append(cases, damageCase{Dir: dir, File: file, Op: "truncate", At: at},
				damageCase{Dir: dir, File: file, Op: "flip", At: at, Bit: at % 8})
		}
	}
	return append(cases, damageCase{Dir: dir, File: file, Op: "remove"})
}
