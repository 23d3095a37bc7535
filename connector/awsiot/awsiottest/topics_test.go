package awsiottest

import (
	"strings"
	"testing"
	"time"
)

func TestMatchesTopic(t *testing.T) {
	for _, test := range []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"#", "a/b/c", true},
		{"a/#", "a", false}, // AWS, unlike the standard
		{"a/#", "a/", true},
		{"a/#", "a/b/c", true},
		{"a/#", "b/c", false},
		{"+", "a", true},
		{"+", "a/b", false},
		{"+/+", "a/b", true},
		{"+/+", "/b", true},
		{"a/+/c", "a/b/c", true},
		{"a/+/c", "a/b/d", false},
		{"a/+", "a/", true},
		{"a/+/#", "a/b", false},
		{"a/+/#", "a/b/c", true},
		{"#", "$aws/things", false},
		{"+/things", "$aws/things", false},
		{"$aws/#", "$aws/things", true},
	} {
		if got := matchesTopic(test.filter, test.topic); got != test.want {
			t.Errorf("%s matches %s: %v", test.filter, test.topic, got)
		}
	}
}

func TestCheckTopicAndFilter(t *testing.T) {
	long := strings.Repeat("x", 256)
	for topic, want := range map[string]bool{
		"a": true, "/": true, long: true, long + "x": false, "1/2/3/4/5/6/7/8": true, "1/2/3/4/5/6/7/8/9": false,
		"": false, "a/+": false, "a/#": false, "\xff": false, "$aws/things/x/shadow/update": true, "$other": false,
		"$aws/rules/r/" + long: true, "$aws/rules/r/" + long + "x": false, "$aws/rules/": false,
	} {
		if got := checkTopic(topic); got != want {
			t.Errorf("topic %.40q: %v", topic, got)
		}
	}
	for filter, want := range map[string]bool{
		"#": true, "+": true, "a/+/b/#": true, "a/#/b": false, "a+": false, "a#": false, "": false, long: true, long + "x": false,
		"$share/g/a/#": true, "$share/g": false, "$share//a": false, "$share/g+/a": false, "$share/g/": false,
		"$share/" + strings.Repeat("g", 128) + "/a": true, "$share/" + strings.Repeat("g", 129) + "/a": false,
		"$share/g/1/2/3/4/5/6/7/8": true, "1/2/3/4/5/6/7/8/9": false, "$SYS/#": false, "$aws/events/#": true, "$aws/rules/r/#": false,
	} {
		if got := checkFilter(filter); got != want {
			t.Errorf("filter %.40q: %v", filter, got)
		}
	}
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBucket(100)
	taken := func(n int) (taken int) {
		for range n {
			if b.take(now) {
				taken++
			}
		}
		return taken
	}
	if got := taken(150); got != 100 {
		t.Errorf("%d at once, want 100", got)
	}
	now = now.Add(100 * time.Millisecond)
	if got := taken(50); got != 10 {
		t.Errorf("%d after a tenth of a second, want 10", got)
	}
	now = now.Add(-time.Hour) // a clock that is set back gives nothing
	if got := taken(50); got != 0 {
		t.Errorf("%d after the clock was set back", got)
	}
	now = now.Add(2 * time.Hour)
	if got := taken(300); got != 100 {
		t.Errorf("%d after a rest, want 100", got)
	}
	for range 1000 {
		if !newBucket(-1).take(now) {
			t.Fatal("no limit is a limit")
		}
	}
}
