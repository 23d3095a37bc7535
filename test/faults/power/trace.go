// Package power shows what a disk holds after its power was lost: it follows
// the system calls of a process, as strace records them, on a model of a disk
// that forgets what was not synced.
package power

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Command is the program, with its arguments, that records into a file; what
// it runs follows. The process is the child of who starts it, so that it can
// be killed as if nobody recorded it.
func Command(strace, file string) []string {
	return []string{
		strace, "-D", "-f", "-q", "--seccomp-bpf", "-xx", "-s", "2000000", "-ttt", "-o", file, "-e",
		"trace=openat,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync,syncfs,sync_file_range,rename,renameat," +
			"renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,ftruncate,truncate,close,link,linkat,lseek,fallocate,copy_file_range,symlink,symlinkat",
	}
}

// call is a system call that has returned.
type call struct {
	name string
	args []string // as strace writes them; strings are quoted hexadecimal
	ret  int64
	at   time.Time // when it was made
}

var (
	lineForm    = regexp.MustCompile(`^(\d+) +(\d+)\.(\d+) (.*)$`)
	resumedForm = regexp.MustCompile(`^<\.\.\. \w+ resumed>`)
	exitForm    = regexp.MustCompile(`^\+\+\+ (exited|killed)`)
	quotedForm  = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?`)
)

// Follow reads a trace and keeps the model of the disk below root, which was
// empty when the trace began. After each call that made something durable,
// boundary is called, with the time when the call was made: all that was told
// before it had been made durable earlier. An error of boundary ends it.
func Follow(trace io.Reader, root string, boundary func(d *Disk, at time.Time) error) error {
	d := newDisk(root)
	begun := map[string]string{}
	r := bufio.NewReaderSize(trace, 1<<20)
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m := lineForm.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || strings.HasPrefix(m[4], "---") || exitForm.MatchString(m[4]) {
			continue
		}
		thread, at, text := m[1], stamp(m[2], m[3]), m[4]
		if first, ok := strings.CutSuffix(text, "<unfinished ...>"); ok {
			begun[thread] = first
			if err := d.begins(first); err != nil {
				return err
			}
			continue
		}
		whole := text
		if resumedForm.MatchString(text) {
			whole = begun[thread] + resumedForm.ReplaceAllString(text, "")
			delete(begun, thread)
		} else if err := d.begins(text); err != nil {
			return err
		}
		c, err := parse(whole)
		if err != nil {
			return err
		}
		c.at = at
		durable, err := d.ends(c)
		if err != nil {
			return fmt.Errorf("%.200s: %w", whole, err)
		}
		if durable {
			if err := boundary(d, at); err != nil {
				return err
			}
		}
	}
}

func stamp(seconds, micros string) time.Time {
	s, _ := strconv.ParseInt(seconds, 10, 64)
	us, _ := strconv.ParseInt(micros, 10, 64)
	return time.Unix(s, us*1000)
}

func parse(text string) (c call, err error) {
	name, rest, ok := strings.Cut(text, "(")
	end := strings.LastIndex(rest, ")")
	if !ok || end < 0 {
		return c, fmt.Errorf("not a system call: %.200s", text)
	}
	after := strings.Fields(strings.TrimPrefix(strings.TrimSpace(rest[end+1:]), "="))
	c.name, c.args, c.ret = name, strings.Split(rest[:end], ", "), -1
	for i := range c.args {
		c.args[i] = strings.TrimSpace(c.args[i])
	}
	if len(after) > 0 {
		if n, err := strconv.ParseInt(after[0], 0, 64); err == nil {
			c.ret = n
		}
	}
	return c, nil
}

// text is the quoted string in an argument, or all of them together.
func text(arg string) (string, error) {
	var all []byte
	for _, m := range quotedForm.FindAllStringSubmatch(arg, -1) {
		if m[2] != "" {
			return "", errors.New("the trace is cut short")
		}
		b, err := hex.DecodeString(strings.ReplaceAll(m[1], `\x`, ""))
		if err != nil {
			return "", err
		}
		all = append(all, b...)
	}
	return string(all), nil
}

func number(arg string) int64 {
	n, err := strconv.ParseInt(arg, 0, 64)
	if err != nil {
		return -1
	}
	return n
}

// Complete reports whether a trace has the end of the process in it.
func Complete(file string, pid int) bool {
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data[max(0, len(data)-1<<16):])) {
		f := strings.Fields(line)
		if len(f) > 3 && f[0] == strconv.Itoa(pid) && f[2] == "+++" {
			return true
		}
	}
	return false
}
