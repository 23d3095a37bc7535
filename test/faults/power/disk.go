package power

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names says what a loss of power does to the names of files: what was made,
// renamed or removed, in a folder that was not synced since.
type Names int

// A journalling file system (ext4, xfs, btrfs) keeps names that are older than
// something synced; POSIX promises that only for folders that were synced.
const (
	NamesKept Names = iota // names as they were, contents as synced
	NamesLost              // names as of the last sync of their folder
)

func (n Names) String() string {
	return map[Names]string{NamesKept: "names kept", NamesLost: "names lost"}[n]
}

// node is a file or a folder.
type node struct {
	names  map[string]*node // of a folder; nil: a file
	synced map[string]*node // the names as of its last sync
	data   []byte
	stable []byte // the data as of its last sync
}

func newFolder() *node { return &node{names: map[string]*node{}, synced: map[string]*node{}} }

// handle is an open file.
type handle struct {
	node    *node
	offset  int64
	through bool // O_SYNC or O_DSYNC
	append  bool
	// begun is what it had when a sync began.
	begun      []byte
	begunNames map[string]*node
}

// Disk is the model of a disk below a folder.
type Disk struct {
	root  string
	top   *node
	files map[int64]*handle // by descriptor
}

func newDisk(root string) *Disk {
	return &Disk{root: filepath.Clean(root), top: newFolder(), files: map[int64]*handle{}}
}

// begins sees a call that is made.
func (d *Disk) begins(text string) error {
	name, rest, _ := strings.Cut(text, "(")
	first, _, _ := strings.Cut(strings.TrimRight(rest, " "), ",")
	first, _, _ = strings.Cut(first, ")")
	h := d.files[number(strings.TrimSpace(first))]
	switch {
	case h == nil:
	case name == "close": // the number may be given away before it returns
		delete(d.files, number(strings.TrimSpace(first)))
	case name == "fsync", name == "fdatasync": // what is written from here on is not in it
		h.begun, h.begunNames = slices.Clone(h.node.data), maps.Clone(h.node.names)
	}
	return nil
}

// ends sees a call that has returned, and reports whether it has made
// something durable.
func (d *Disk) ends(c call) (durable bool, err error) {
	if c.ret < 0 {
		return false, nil
	}
	switch c.name {
	case "openat":
		return false, d.open(c)
	case "write", "pwrite64", "writev":
		return d.write(c)
	case "fsync", "fdatasync":
		return d.sync(c), nil
	case "ftruncate":
		if h := d.files[number(c.args[0])]; h != nil {
			h.node.resize(number(c.args[1]))
		}
	case "truncate":
		if n, err := d.find("AT_FDCWD", c.args[0]); err != nil || n == nil {
			return false, err
		} else {
			n.resize(number(c.args[1]))
		}
	case "lseek":
		if h := d.files[number(c.args[0])]; h != nil {
			h.offset = c.ret
		}
	case "mkdirat", "unlinkat", "renameat", "renameat2", "linkat":
		return false, d.name(c)
	case "close":
	default:
		return false, d.foreign(c)
	}
	return false, nil
}

// foreign refuses calls that the model does not know, where they concern it.
func (d *Disk) foreign(c call) error {
	for _, a := range c.args {
		if d.files[number(a)] != nil || strings.Contains(a, `"`) {
			return errors.New("the model does not know this call")
		}
	}
	return nil
}

func (d *Disk) open(c call) error {
	flags := c.args[2]
	parent, base, err := d.parent(c.args[0], c.args[1])
	if err != nil || parent == nil {
		return err
	}
	n := d.top
	if base != "" {
		if n = parent.names[base]; n == nil {
			n = &node{}
			parent.names[base] = n
		}
	}
	if strings.Contains(flags, "O_TRUNC") {
		n.data = nil
	}
	d.files[c.ret] = &handle{
		node: n, through: strings.Contains(flags, "O_SYNC") || strings.Contains(flags, "O_DSYNC"), append: strings.Contains(flags, "O_APPEND"),
	}
	return nil
}

func (d *Disk) write(c call) (durable bool, err error) {
	h := d.files[number(c.args[0])]
	if h == nil {
		return false, nil
	}
	body := c.args[1]
	if c.name == "writev" {
		body = strings.Join(c.args[1:], " ")
	}
	data, err := text(body)
	if err != nil {
		return false, err
	}
	if int64(len(data)) < c.ret {
		return false, errors.New("the trace has less than was written")
	}
	data = data[:c.ret]
	at := h.offset
	switch {
	case c.name == "pwrite64":
		at = number(c.args[3])
	case h.append:
		at = int64(len(h.node.data))
		fallthrough
	default:
		h.offset = at + int64(len(data))
	}
	h.node.data = put(h.node.data, data, at)
	if h.through {
		h.node.stable = put(h.node.stable, data, at)
	}
	return h.through, nil
}

// put writes into a file's content; a hole is zeros.
func put(content []byte, data string, at int64) []byte {
	if end := at + int64(len(data)); int64(len(content)) < end {
		content = append(content, make([]byte, end-int64(len(content)))...)
	}
	copy(content[at:], data)
	return content
}

func (n *node) resize(size int64) {
	if size <= int64(len(n.data)) {
		n.data = slices.Clone(n.data[:size])
		return
	}
	n.data = append(n.data, make([]byte, size-int64(len(n.data)))...)
}

func (d *Disk) sync(c call) bool {
	h := d.files[number(c.args[0])]
	if h == nil {
		return false
	}
	h.node.stable, h.node.synced = h.begun, h.begunNames
	return true
}

// name makes, removes and renames.
func (d *Disk) name(c call) error {
	parent, base, err := d.parent(c.args[0], c.args[1])
	if err != nil {
		return err
	}
	switch c.name {
	case "mkdirat":
		if parent != nil && base != "" {
			parent.names[base] = newFolder()
		}
	case "unlinkat":
		if parent != nil {
			delete(parent.names, base)
		}
	default:
		to, newBase, err := d.parent(c.args[2], c.args[3])
		if err != nil || parent == nil && to == nil {
			return err
		}
		if parent == nil || to == nil {
			return errors.New("a file comes from elsewhere, or goes")
		}
		to.names[newBase] = parent.names[base]
		if c.name != "linkat" {
			delete(parent.names, base)
		}
	}
	return nil
}

// parent finds the folder that a path is in; nil when it is not below root.
// base is "" for root itself.
func (d *Disk) parent(dir, path string) (*node, string, error) {
	name, err := text(path)
	if err != nil {
		return nil, "", err
	}
	n := d.top
	if !filepath.IsAbs(name) {
		h := d.files[number(dir)]
		if h == nil {
			return nil, "", nil // elsewhere: Sluice's folder is named in full
		}
		n = h.node
	} else {
		rel, err := filepath.Rel(d.root, name)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return nil, "", nil //nolint:nilerr // elsewhere
		}
		name = rel
	}
	parts := strings.Split(filepath.Clean(name), "/")
	if name == "." || len(parts) == 0 {
		return n, "", nil
	}
	for _, p := range parts[:len(parts)-1] {
		if n = n.names[p]; n == nil || n.names == nil {
			return nil, "", fmt.Errorf("%s: %s is not known", name, p)
		}
	}
	return n, parts[len(parts)-1], nil
}

func (d *Disk) find(dir, path string) (*node, error) {
	parent, base, err := d.parent(dir, path)
	if err != nil || parent == nil {
		return nil, err
	}
	return parent.names[base], nil
}

// Write writes what the disk would hold, were its power lost now, into an
// empty folder.
func (d *Disk) Write(to string, names Names) error { return d.top.write(to, names) }

func (n *node) write(to string, names Names) error {
	if n.names == nil {
		return os.WriteFile(to, n.stable, 0o600)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	children := n.names
	if names == NamesLost {
		children = n.synced
	}
	for name, child := range children {
		if err := child.write(filepath.Join(to, name), names); err != nil {
			return err
		}
	}
	return nil
}

// Count is how many files have a name that ends so.
func (d *Disk) Count(suffix string) int { return d.top.count(suffix) }

func (n *node) count(suffix string) (count int) {
	for name, child := range n.names {
		if child.names != nil {
			count += child.count(suffix)
		} else if strings.HasSuffix(name, suffix) {
			count++
		}
	}
	return count
}
