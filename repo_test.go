package sluice_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// rooms are the folders that import the root and internal/, and never each
// other. A room's own subfolders belong to it.
var rooms = []string{"network", "flow", "journal", "connection", "connector", "store", "api", "backup"}

// The budgets: over the ceiling a file has two subjects, and a function needs
// its reason written here.
const (
	fileCeiling     = 700
	functionCeiling = 100
)

var longFunctions = map[string]string{}

type source struct {
	path string
	dir  string // "" for the root
	test bool
	file *ast.File
	set  *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if dir == "." {
			dir = ""
		}
		all = append(all, source{path: filepath.ToSlash(path), dir: dir, test: strings.HasSuffix(path, "_test.go"), file: file, set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func room(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	for _, r := range rooms {
		if first == r {
			return r
		}
	}
	return ""
}

// TestImports keeps the floor plan: imports point inward, siblings do not
// know each other.
func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			inside, ours := strings.CutPrefix(path, "sluice/")
			ours = ours || path == "sluice"
			switch {
			case s.dir == "" && !s.test && (ours || strings.Contains(strings.Split(path, "/")[0], ".")):
				t.Errorf("%s: the root imports the standard library alone, not %s", s.path, path)
			case !ours || path == "sluice" || strings.HasPrefix(inside, "internal/"):
			case strings.HasPrefix(s.dir, "internal/"):
				t.Errorf("%s: internal/ imports only the root and internal/, not %s", s.path, path)
			case room(s.dir) == "" || forTests(s, inside):
			case sibling(s.dir, inside):
				t.Errorf("%s: a room imports the root and internal/, never another room (%s)", s.path, path)
			}
		}
	}
}

// sibling reports whether a folder of a room may not import another: two
// rooms, or two kinds within network/ or connector/.
func sibling(dir, other string) bool {
	if room(dir) != room(other) {
		return true
	}
	a, b := strings.Split(dir, "/"), strings.Split(other, "/")
	return len(a) > 1 && len(b) > 1 && a[1] != b[1]
}

// forTests allows tests, and packages made for tests, the emulators and the
// contract suites.
func forTests(s source, imported string) bool {
	return (s.test || strings.HasSuffix(s.dir, "test")) && strings.HasSuffix(imported, "test")
}

// TestPackageComments wants exactly one package comment in each package.
func TestPackageComments(t *testing.T) {
	count := map[string]int{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if _, ok := count[s.dir]; !ok {
			count[s.dir] = 0
		}
		if s.file.Doc != nil {
			count[s.dir]++
		}
	}
	for dir, n := range count {
		if n != 1 {
			t.Errorf("package %q has %d package comments, want 1", "sluice/"+dir, n)
		}
	}
}

// TestSizes keeps files and functions readable.
func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if n := s.set.Position(s.file.End()).Line; n > fileCeiling {
			t.Errorf("%s has %d lines, ceiling %d: two subjects?", s.path, n, fileCeiling)
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || longFunctions[s.path+":"+f.Name.Name] != "" {
				continue
			}
			if n := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1; n > functionCeiling {
				t.Errorf("%s: %s has %d lines, ceiling %d", s.path, f.Name.Name, n, functionCeiling)
			}
		}
	}
}

// TestNoPackageState forbids init functions and package variables that hold
// state: errors, compiled patterns and tables are values that never change.
func TestNoPackageState(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: init functions hide an order; call it from app", s.path)
			}
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				if len(v.Values) == 0 && v.Names[0].Name != "_" && !embedded(g) {
					t.Errorf("%s: package variable %s has no value: state of a package?", s.path, v.Names[0].Name)
				}
			}
		}
	}
}

func embedded(g *ast.GenDecl) bool {
	return g.Doc != nil && strings.Contains(g.Doc.List[len(g.Doc.List)-1].Text, "go:embed")
}

// TestMap wants every folder of the root on the README's map, and every file
// that the README names to exist.
func TestMap(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && e.Name() != "data" && !strings.Contains(string(readme), "`"+e.Name()+"/`") {
			t.Errorf("README.md: no line for the folder `%s/`", e.Name())
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([a-zA-Z0-9_./-]+)\)`).FindAllStringSubmatch(string(readme), -1) {
		if _, err := os.Stat(m[1]); err != nil {
			t.Errorf("README.md leads to %s, which is not there", m[1])
		}
	}
}

// TestDependencies wants each direct dependency explained.
func TestDependencies(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && strings.HasPrefix(fields[1], "v") && !strings.Contains(string(doc), fields[0]+" "+fields[1]) {
			t.Errorf("docs/dependencies.md: no line for %s %s", fields[0], fields[1])
		}
	}
}

// TestPackages wants each package explained that npm installs for a test.
func TestPackages(t *testing.T) {
	manifest, err := os.ReadFile("connector/awsiot/awsiottest/testdata/javascript/package.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var packages struct{ Dependencies, Overrides map[string]string }
	if err := json.Unmarshal(manifest, &packages); err != nil || len(packages.Dependencies) == 0 {
		t.Fatalf("package.json: %v, %v", packages, err)
	}
	for _, versions := range []map[string]string{packages.Dependencies, packages.Overrides} {
		for name, version := range versions {
			if !strings.Contains(string(doc), "| "+name+" "+version+" |") {
				t.Errorf("docs/dependencies.md: no line for %s %s", name, version)
			}
		}
	}
}

// TestNamedTests wants the tests to exist that a document names as proof.
func TestNamedTests(t *testing.T) {
	there := map[string]bool{}
	for _, s := range sources(t) {
		for _, decl := range s.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && s.test {
				there[f.Name.Name] = true
			}
		}
	}
	for _, name := range []string{"docs/aws.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s names no test", name)
		}
		for _, m := range found {
			if !there[m[1]] {
				t.Errorf("%s names %s, which is not there", name, m[1])
			}
		}
	}
}
