package power_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/test/faults/power"
)

func hexed(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return `"` + b.String() + `"`
}

// A file that was synced is there, one that was not is empty or has no name,
// and what was written while a sync was under way is not in it.
func TestWhatWasSyncedIsThere(t *testing.T) {
	open := func(name, flags string, fd int) string {
		return fmt.Sprintf("openat(AT_FDCWD, %s, %s) = %d", hexed("/d/"+name), flags, fd)
	}
	write := func(fd int, text string) string {
		return fmt.Sprintf("write(%d, %s, %d) = %d", fd, hexed(text), len(text), len(text))
	}
	var trace strings.Builder
	for i, call := range []string{
		"mkdirat(AT_FDCWD, " + hexed("/d") + ", 0700) = 0",
		open("a", "O_RDWR|O_CREAT, 0600", 3), write(3, "one"),
		"fsync(3 <unfinished ...>", write(3, "two"), "<... fsync resumed>) = 0",
		open("b", "O_WRONLY|O_CREAT|O_SYNC, 0600", 4), write(4, "through"),
		open("c", "O_WRONLY|O_CREAT, 0600", 5), write(5, "unsynced"), "close(5) = 0",
		open("", "O_RDONLY", 5), "fsync(5) = 0", "close(5) = 0",
		"renameat(AT_FDCWD, " + hexed("/d/b") + ", AT_FDCWD, " + hexed("/d/e") + ") = 0",
		"pwrite64(3, " + hexed("X") + ", 1, 0) = 1", "ftruncate(3, 2) = 0", "fdatasync(3) = 0",
		open("f", "O_WRONLY|O_CREAT|O_SYNC, 0600", 6), write(6, "late name"),
	} {
		fmt.Fprintf(&trace, "1%d 17955%05d.000001 %s\n", 0, i, call)
	}
	want := []map[power.Names]string{
		{power.NamesKept: "a=one", power.NamesLost: ""},
		{power.NamesKept: "a=one b=through", power.NamesLost: ""},
		{power.NamesKept: "a=one b=through c=", power.NamesLost: "a=one b=through c="},
		{power.NamesKept: "a=Xn c= e=through", power.NamesLost: "a=Xn b=through c="},
		{power.NamesKept: "a=Xn c= e=through f=late name", power.NamesLost: "a=Xn b=through c="},
	}
	n := 0
	if err := power.Follow(strings.NewReader(trace.String()), "/d", func(d *power.Disk, _ time.Time) error {
		for _, names := range []power.Names{power.NamesKept, power.NamesLost} {
			if diff := cmp.Diff(want[n][names], content(t, d, names)); diff != "" {
				t.Errorf("boundary %d, %s: %s", n, names, diff)
			}
		}
		n++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n != len(want) {
		t.Errorf("%d boundaries, want %d", n, len(want))
	}
}

func content(t *testing.T, d *power.Disk, names power.Names) string {
	t.Helper()
	dir := t.TempDir()
	if err := d.Write(dir, names); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, filepath.Base(f)+"="+string(data))
	}
	return strings.Join(all, " ")
}
