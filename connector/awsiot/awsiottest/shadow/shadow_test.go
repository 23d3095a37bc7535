package shadow

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// world is a store whose time stands still until it is moved.
type world struct {
	*Store
	t   *testing.T
	now time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Unix(100, 0)}
	w.Store = NewStore(DefaultLimits(), func() time.Time { return w.now })
	return w
}

var lamp = ID{Thing: "lamp"}

func (w *world) update(body string) Answers {
	w.t.Helper()
	a, err := w.Update(lamp, []byte(body))
	if err != nil {
		w.t.Fatalf("%s: %v", body, err)
	}
	return a
}

// same compares JSON, whatever the order of its members.
func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		t.Errorf("%s: %v in %q", what, err, got)
		return
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestUpdate follows a shadow through the life that the guide describes.
func TestUpdate(t *testing.T) {
	w := newWorld(t)
	a := w.update(`{"state":{"reported":{"color":"red","at":{"x":1,"y":2}}},"clientToken":"t1"}`)
	same(t, "accepted", a.Accepted, `{"state":{"reported":{"color":"red","at":{"x":1,"y":2}}},
		"metadata":{"reported":{"color":{"timestamp":100},"at":{"x":{"timestamp":100},"y":{"timestamp":100}}}},
		"version":1,"timestamp":100,"clientToken":"t1"}`)
	if a.Delta != nil {
		t.Errorf("delta %s", a.Delta)
	}
	same(t, "documents", a.Documents, `{"current":{"state":{"reported":{"color":"red","at":{"x":1,"y":2}}},
		"metadata":{"reported":{"color":{"timestamp":100},"at":{"x":{"timestamp":100},"y":{"timestamp":100}}}},"version":1},
		"timestamp":100,"clientToken":"t1"}`)

	w.now = time.Unix(200, 0)
	a = w.update(`{"state":{"desired":{"color":"green","at":{"x":1,"y":3},"new":true}},"version":1}`)
	same(t, "delta", a.Delta, `{"state":{"color":"green","at":{"y":3},"new":true},
		"metadata":{"color":{"timestamp":200},"at":{"y":{"timestamp":200}},"new":{"timestamp":200}},"version":2,"timestamp":200}`)
	same(t, "documents", a.Documents, `{"previous":{"state":{"reported":{"color":"red","at":{"x":1,"y":2}}},
		"metadata":{"reported":{"color":{"timestamp":100},"at":{"x":{"timestamp":100},"y":{"timestamp":100}}}},"version":1},
		"current":{"state":{"reported":{"color":"red","at":{"x":1,"y":2}},"desired":{"color":"green","at":{"x":1,"y":3},"new":true}},
		"metadata":{"reported":{"color":{"timestamp":100},"at":{"x":{"timestamp":100},"y":{"timestamp":100}}},
			"desired":{"color":{"timestamp":200},"at":{"x":{"timestamp":200},"y":{"timestamp":200}},"new":{"timestamp":200}}},"version":2},
		"timestamp":200}`)

	// Null removes a member, or a whole section, and the times of others stay.
	w.now = time.Unix(300, 0)
	a = w.update(`{"state":{"desired":{"new":null,"at":{"y":null}},"reported":{"color":"green"}}}`)
	if a.Delta != nil {
		t.Errorf("delta %s", a.Delta)
	}
	got, err := w.Get(lamp, []byte(`{"clientToken":"t2"}`))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "get", got.Accepted, `{"state":{"desired":{"color":"green","at":{"x":1}},"reported":{"color":"green","at":{"x":1,"y":2}}},
		"metadata":{"desired":{"color":{"timestamp":200},"at":{"x":{"timestamp":200}}},
			"reported":{"color":{"timestamp":300},"at":{"x":{"timestamp":100},"y":{"timestamp":100}}}},
		"version":3,"timestamp":300,"clientToken":"t2"}`)
	a = w.update(`{"state":{"desired":null}}`)
	same(t, "accepted", a.Accepted, `{"state":{"desired":null},"metadata":{},"version":4,"timestamp":300}`)
	got, _ = w.Get(lamp, nil)
	if strings.Contains(string(got.Accepted), "desired") {
		t.Errorf("desired is still there: %s", got.Accepted)
	}
}

// TestArrays are replaced whole, and come into the delta whole.
func TestArrays(t *testing.T) {
	w := newWorld(t)
	w.update(`{"state":{"desired":{"list":[1,{"a":2},3]},"reported":{"list":[1,{"a":2},3.0],"other":1}}}`)
	got, _ := w.Get(lamp, nil)
	if strings.Contains(string(got.Accepted), "delta") {
		t.Errorf("the same list differs: %s", got.Accepted)
	}
	a := w.update(`{"state":{"desired":{"list":[1,{"a":3}]}}}`)
	same(t, "delta", a.Delta, `{"state":{"list":[1,{"a":3}]},"metadata":{"list":[{"timestamp":100},{"a":{"timestamp":100}}]},"version":2,"timestamp":100}`)
	got, _ = w.Get(lamp, nil)
	var doc struct {
		State struct{ Desired, Delta, Reported map[string]any }
	}
	if err := json.Unmarshal(got.Accepted, &doc); err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(doc.State.Desired, doc.State.Delta) || len(doc.State.Reported) != 2 {
		t.Errorf("document %s", got.Accepted)
	}
}

func nested(levels int) string {
	return strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels)
}

func TestRejected(t *testing.T) {
	w := newWorld(t)
	w.update(`{"state":{"reported":{"a":1}}}`)
	w.update(`{"state":{"desired":` + nested(6) + `}}`)
	for body, want := range map[string]string{
		``:                                   "400: Invalid JSON",
		`[]`:                                 "400: Invalid JSON",
		`{} {}`:                              "400: Invalid JSON",
		"\xff":                               "415: Unsupported documented encoding; supported encoding is UTF-8",
		`{}`:                                 "400: Missing required node: state",
		`{"state":1}`:                        "400: State node must be an object",
		`{"state":{"desired":1}}`:            "400: Desired node must be an object",
		`{"state":{"reported":[]}}`:          "400: Reported node must be an object",
		`{"state":{"other":{}}}`:             "400: State contains an invalid node",
		`{"state":{"desired":{"a":[null]}}}`: "400: State contains an invalid node",
		`{"state":{"reported":` + nested(7) + `}}`:                         "400: JSON contains too many levels of nesting; maximum is 6",
		`{"state":{},"version":"1"}`:                                       "400: Invalid version",
		`{"state":{},"version":-1}`:                                        "400: Invalid version",
		`{"state":{},"version":1}`:                                         "409: Version conflict",
		`{"state":{},"clientToken":1}`:                                     "400: Invalid clientToken",
		`{"state":{},"clientToken":"` + strings.Repeat("x", 65) + `"}`:     "400: Invalid clientToken",
		`{"state":{"desired":{"b":"` + strings.Repeat("x", 8<<10) + `"}}}`: "413: The payload exceeds the maximum size allowed",
	} {
		if _, err := w.Update(lamp, []byte(body)); err == nil || err.Error() != want {
			t.Errorf("%.60s: %v, want %s", body, err, want)
		}
	}
	_, err := w.Update(lamp, []byte(`{"state":1,"clientToken":"t"}`))
	same(t, "rejected", err.Document(), `{"code":400,"message":"State node must be an object","timestamp":100,"clientToken":"t"}`)
}

// TestSize counts the state as a whole, without its metadata.
func TestSize(t *testing.T) {
	w := newWorld(t)
	half := func(section, name string) string {
		return fmt.Sprintf(`{"state":{"%s":{"%s":"%s"}}}`, section, name, strings.Repeat("x", 4<<10))
	}
	w.update(half("desired", "a"))
	if _, err := w.Update(lamp, []byte(half("reported", "a"))); err == nil || err.Code != 413 {
		t.Errorf("two halves and a little: %v", err)
	}
	w.update(`{"state":{"desired":null}}`)
	w.update(half("reported", "a"))
}

// TestVersions are kept by a deleted shadow for two days.
func TestVersions(t *testing.T) {
	w := newWorld(t)
	w.update(`{"state":{"reported":{"a":1}}}`)
	w.update(`{"state":{"reported":{"a":1}},"version":1}`)
	deleted, err := w.Delete(lamp, []byte(`{"clientToken":"t"}`))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "deleted", deleted.Accepted, `{"version":2,"timestamp":100,"clientToken":"t"}`)
	for what, f := range map[string]func(ID, []byte) (Answers, *Error){"get": w.Get, "delete": w.Delete} {
		_, err := f(lamp, []byte(`{"clientToken":"t"}`))
		if err == nil {
			t.Fatal(what, "succeeds")
		}
		same(t, what, err.Document(), `{"code":404,"message":"No shadow exists with name: 'lamp'","timestamp":100,"clientToken":"t"}`)
		if _, err := f(lamp, []byte("x")); err == nil || err.Code != 400 {
			t.Errorf("%s with no JSON: %v", what, err)
		}
	}
	a := w.update(`{"state":{"reported":{"b":1}},"version":2}`)
	if !strings.Contains(string(a.Accepted), `"version":3`) || strings.Contains(string(a.Documents), "previous") {
		t.Errorf("again: %s %s", a.Accepted, a.Documents)
	}
	if _, err := w.Delete(lamp, nil); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(versionKept)
	if a := w.update(`{"state":{}}`); !strings.Contains(string(a.Accepted), `"version":1`) {
		t.Errorf("after two days: %s", a.Accepted)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	for _, id := range []ID{{"a", ""}, {"a", "three"}, {"a", "one"}, {"a", "two"}, {"b", "one"}} {
		if _, err := w.Update(id, []byte(`{"state":{}}`)); err != nil {
			t.Fatal(err)
		}
	}
	names, next := w.Names("a", "", 2)
	if !cmp.Equal(names, []string{"one", "three"}) || next != "three" {
		t.Errorf("%v %q", names, next)
	}
	if names, next = w.Names("a", next, 2); !cmp.Equal(names, []string{"two"}) || next != "" {
		t.Errorf("%v %q", names, next)
	}
	if _, err := w.Get(ID{"a", "none"}, nil); err == nil || err.Message != "No shadow exists with name: 'a~none'" {
		t.Errorf("%v", err)
	}
}

// FuzzUpdate has any request change a shadow, or leave it as it was.
func FuzzUpdate(f *testing.F) {
	for _, seed := range []string{
		`{"state":{"desired":{"a":{"b":[1,{"c":null}]}},"reported":null},"version":1,"clientToken":"t"}`, `{"state":{"desired":{"a":1}}}`, `{"state":{"desired":{"a":null}}}`, `[`, "\xff",
	} {
		f.Add([]byte(`{"state":{"desired":{"a":{"b":1}},"reported":{"a":2}}}`), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := NewStore(DefaultLimits(), func() time.Time { return time.Unix(100, 0) })
		version := 0
		for _, body := range [][]byte{first, second} {
			before, _ := s.Get(lamp, nil)
			a, err := s.Update(lamp, body)
			after, _ := s.Get(lamp, nil)
			if err != nil {
				if err.Code < 400 || !json.Valid(err.Document()) || !cmp.Equal(before, after) {
					t.Fatalf("%v: before %s, after %s", err, before.Accepted, after.Accepted)
				}
				continue
			}
			version++
			var doc struct{ Version int }
			if e := json.Unmarshal(after.Accepted, &doc); e != nil || doc.Version != version || !json.Valid(a.Accepted) || !json.Valid(a.Documents) {
				t.Fatalf("version %d: %v %s", version, e, after.Accepted)
			}
			if a.Delta != nil && !json.Valid(a.Delta) {
				t.Fatalf("delta %s", a.Delta)
			}
		}
	})
}
