package pattern_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/internal/pattern"
)

const uplink = `{"DevEUI_uplink": {"Time":"2021-04-07T08:49:51.551+00:00","DevEUI":"20635F0108000496","FPort":17,
"FCntUp":"18","LrrRSSI":-60.000000,"Big":12345678901234567890,"ADRbit":true,"Nothing":null,"Empty":"",
"ModelCfg":"1:TagA, 2:TagB","Lrrs":{"Lrr":[{"Lrrid":"08040059","LrrSNR":9.5},{"Lrrid":"08040060","LrrSNR":2}]},
"CustomerData":{"name":"Pump 7","tags":["Lyon:3","Paris:12","Paris:13"],"alr":{"pro":"X","ver":"1"},"none":[]},
"Untyped":"{\"name\":\"inner\",\"deep\":{\"a\":1}}",
"payload":{"temperature":19.20,"Axis-Y":3,"a.b":"dot","temperature:1":4},
"evil":{"slash":"a/b//c","wild":"+#$","nul":"a\u0000b","ctl":"x\ty\u0085z","dollar":"$SYS","bad":"\ud800","uni":"Zürich ✓","fffe":"\uffff"}}}`

func TestResolve(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"the seed's", "tpx/things/{DevEUI}/uplink", "tpx/things/20635F0108000496/uplink"},
		{"leading slash", "/mqtt/{DevEUI}/uplink", "/mqtt/20635F0108000496/uplink"},
		{"two", "mqtt/thing/{DevEUI}/{FPort}/uplink", "mqtt/thing/20635F0108000496/17/uplink"},
		{"dots", "amqp.things.{DevEUI}.uplink", "amqp.things.20635F0108000496.uplink"},
		{"regex filter", "iot/devices/{DevEUI}/tags/{$..CustomerData.tags[?(@ =~ /Paris:.*/)]}", "iot/devices/20635F0108000496/tags/Paris:12"},
		{"fallback, first", "mqtt/things/{CustomerData.name|DevEUI|'None'}/uplink", "mqtt/things/Pump 7/uplink"},
		{"fallback, second", "{CustomerData.missing|DevEUI|'None'}", "20635F0108000496"},
		{"fallback, literal", "{CustomerData.missing|Nothing|Empty|'None'}", "None"},
		{"blanks", "{ CustomerData.missing | 'None' }", "None"},
		{"literal with a bar", `{X|'a|b}c'}`, "a|b}c"},
		{"literal with a quote", `{X|'it\'s'}`, "it's"},
		{"double quotes", `{X|"None"}`, "None"},
		{"number literal kept", "{LrrRSSI}", "-60.000000"},
		{"big number kept", "{Big}", "12345678901234567890"},
		{"number literal kept by JsonPath", "{$.DevEUI_uplink.payload.temperature}", "19.20"},
		{"string number", "{FCntUp}", "18"},
		{"bool", "{ADRbit}", "true"},
		{"dash", "{payload.Axis-Y}", "3"},
		{"colon", "{payload.temperature:1}", "4"},
		{"a key with a dot", "{$.DevEUI_uplink.payload['a.b']}", "dot"},
		{"array", "{CustomerData.tags}", "Lyon:3"},
		{"index", "{Lrrs.Lrr[1].Lrrid}", "08040060"},
		{"JsonPath filter", "{$.DevEUI_uplink.Lrrs.Lrr[?@.LrrSNR < 5].Lrrid}", "08040060"},
		{"regex with braces, bars and slashes", `{$..tags[?(@ =~ /(Rome|Paris):\d{2}|a\/b/)]}`, "Paris:12"},
		{"regex matches the whole", `{$..tags[?(@ =~ /aris/)]|'no'}`, "no"},
		{"regex flag", `{$..tags[?(@ =~ /PARIS:13/i)]}`, "Paris:13"},
		{"regex with and", `{$..Lrr[?(@.LrrSNR > 1 && @.Lrrid =~ /.*60/)].Lrrid}`, "08040060"},
		{"regex on a number", `{$..Lrr[?(@.LrrSNR =~ /9\.5/)].Lrrid}`, "08040059"},
		{"regex on what is missing", `{$..Lrr[?(@.X =~ /.*/)].Lrrid|'no'}`, "no"},
		{"match on what is missing", `{$..Lrr[?match(@.X, 'a')].Lrrid|'no'}`, "no"},
		{"two regexes", `{$..tags[?(@ =~ /P.*/ && @ =~ /.*13/)]}`, "Paris:13"},
		{"untyped object", "{Untyped.name}/{Untyped.deep.a}", "inner/1"},
		{"through a scalar", "{FPort.x|'no'}", "no"},
		{"object", "{CustomerData|'no'}", "no"},
		{"empty array", "{CustomerData.none|'no'}", "no"},
		{"slash", "x/{evil.slash}/y", "x/a_b__c/y"},
		{"wildcards", "x/{evil.wild}", "x/__$"},
		{"NUL", "x/{evil.nul}", "x/a_b"},
		{"control", "x/{evil.ctl}", "x/x_y_z"},
		{"noncharacter", "x/{evil.fffe}", "x/_"},
		{"reserved topic", "{evil.dollar}/x", "_SYS/x"},
		{"dollar later", "x{evil.dollar}", "x$SYS"},
		{"letters of the world", "{evil.uni}", "Zürich ✓"},
		{"no expression", "all/uplinks", "all/uplinks"},
		{"adjacent", "{DevEUI}{FPort}", "20635F010800049617"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := pattern.Compile(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Resolve([]byte(uplink), "DevEUI_uplink", "")
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestResolveOtherRoots(t *testing.T) {
	p := compile(t, "a/{DevEUI}/{CustomerData.name|'x'}")
	for _, tc := range []struct{ doc, root, want string }{
		{`{"DevEUI_location":{"DevEUI":"0059ac0000000001"}}`, "DevEUI_location", "a/0059ac0000000001/x"},
		{`{"Odd.root":{"DevEUI":"01"}}`, "Odd.root", "a/01/x"},
		{`{"DevEUI":"02","CustomerData":{"name":"n"}}`, "", "a/02/n"},
		{`{"Odd":{"DevEUI":"01","CustomerData":"{\"name\":\"z\"}"}}`, "Odd", "a/01/z"},
	} {
		if got, err := p.Resolve([]byte(tc.doc), tc.root, ""); err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v; want %q", tc.doc, got, err, tc.want)
		}
	}
}

func TestStandIn(t *testing.T) {
	const alarm = `{"BS_alarm":{"LrrID":"08040059","DevEUI":null,"Sub":{}}}`
	for _, tc := range []struct{ text, want string }{
		{"{DevEUI}", "08040059"},
		{"{CustomerData.name|DevEUI|'None'}", "08040059"},
		{"{LrrID|DevEUI}", "08040059"},
		{"{Sub.DevEUI|'None'}", "None"},
		{"{$..DevEUI|'None'}", "None"},
	} {
		if got, err := compile(t, tc.text).Resolve([]byte(alarm), "BS_alarm", "08040059"); err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v; want %q", tc.text, got, err, tc.want)
		}
	}
	const location = `{"DevEUI_location":{"DevEUI":"0059ac0000000001"}}`
	if got, err := compile(t, "{DevEUI}").Resolve([]byte(location), "DevEUI_location", "0059AC0000000001"); err != nil || got != "0059AC0000000001" {
		t.Errorf("a device's one topic: got %q, %v", got, err)
	}
	if _, err := compile(t, "{DevEUI}").Resolve([]byte(alarm), "BS_alarm", ""); err == nil {
		t.Error("nothing stands in, and it resolved")
	}
}

func TestUnresolved(t *testing.T) {
	for _, text := range []string{"{Missing}", "a/{$.x.y}/b", "{Nothing|Empty}", "{CustomerData.alr}"} {
		p := compile(t, text)
		_, err := p.Resolve([]byte(uplink), "DevEUI_uplink", "")
		if _, ok := errors.AsType[*pattern.UnresolvedError](err); !ok {
			t.Errorf("%s: %v, want an UnresolvedError", text, err)
		}
	}
}

// The same document makes the same topic, although members of objects come in
// no order.
func TestResolveIsDeterministic(t *testing.T) {
	p := compile(t, "{$..name}")
	doc := []byte(`{"r":{"z":{"name":"z"},"a":{"name":"a"},"m":{"name":"m"},"b":{"name":"b"}}}`)
	for range 50 {
		if got, err := p.Resolve(doc, "r", ""); err != nil || got != "a" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for _, tc := range []struct {
		text     string
		position int
		says     string
	}{
		{"a/{DevEUI", 3, "no '}'"},
		{"a/DevEUI}", 9, "without"},
		{"{}", 2, "empty"},
		{"{a||b}", 4, "empty"},
		{"{a|}", 4, "empty"},
		{"{a{b}}", 3, "another"},
		{"{'a}", 1, "quote"},
		{"{''}", 2, "empty"},
		{"{'a'b}", 2, "behind"},
		{"{a..b}", 2, "empty part"},
		{"{$.[}", 5, "bracket"},
		{"{a)}", 3, "never opened"},
		{"{$.a[?(@ =~ /x]}", 1, "regular expression"},
		{"{$..a[?(@ =~ /(/)]}", 2, "regular expression"},
		{"{$..a[?(@ =~ /a/x)]}", 2, "flag"},
		{"{$..a[?(@ in ['x'])]}", 2, "JsonPath"},
		{"{.DevEUI_uplink.DevEUI}", 2, "empty part"},
		{"{round(a)}", 7, "not understood"},
		{"é/{*}", 4, "not understood"},
		{"a\x00b", 2, "control"},
		{"a\xffb", 2, "UTF-8"},
	} {
		_, err := pattern.Compile(tc.text)
		e, ok := errors.AsType[*pattern.SyntaxError](err)
		if !ok {
			t.Errorf("%q: %v, want a SyntaxError", tc.text, err)
			continue
		}
		if e.Position != tc.position || !strings.Contains(e.Message, tc.says) {
			t.Errorf("%q: character %d: %s; want character %d, %q", tc.text, e.Position, e.Message, tc.position, tc.says)
		}
	}
}

// All faults are told, in order, and what could be read is known.
func TestFaults(t *testing.T) {
	static, faults := pattern.Faults("a/+/{x..y}/}/{'b}/{FPort/#")
	var at []int
	for _, err := range faults {
		if e, ok := errors.AsType[*pattern.SyntaxError](err); ok {
			at = append(at, e.Position)
		}
	}
	if want := []int{6, 12, 14, 19}; !slices.Equal(at, want) {
		t.Errorf("faults at %v, want %v: %v", at, want, faults)
	}
	if want := (pattern.Static{Slashes: 6, MinBytes: 12, Expressions: 3, Wildcards: "+#"}); static != want {
		t.Errorf("%+v, want %+v", static, want)
	}
	if _, faults := pattern.Faults("a/{DevEUI}"); len(faults) > 0 {
		t.Errorf("faults: %v", faults)
	}
}

func TestStaticAndFilter(t *testing.T) {
	for _, tc := range []struct {
		text, filter string
		static       pattern.Static
	}{
		{"tpx/things/{DevEUI}/downlink", "tpx/things/+/downlink", pattern.Static{Slashes: 3, MinBytes: 21, Expressions: 1}},
		{"a/dev-{DevEUI}-x/{FPort}{FCntUp}", "a/+/+", pattern.Static{Slashes: 2, MinBytes: 12, Expressions: 3}},
		{"/a/", "/a/", pattern.Static{Slashes: 2, MinBytes: 3}},
		{"{$['a/b']}/#", "+/#", pattern.Static{Slashes: 1, MinBytes: 3, Expressions: 1, Wildcards: "#"}},
		{"", "", pattern.Static{}},
	} {
		p := compile(t, tc.text)
		if p.Filter() != tc.filter || p.Static() != tc.static {
			t.Errorf("%s: filter %q, %+v; want %q, %+v", tc.text, p.Filter(), p.Static(), tc.filter, tc.static)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		text, topic, devEUI string
		ok                  bool
	}{
		{"tpx/things/{DevEUI}/downlink", "tpx/things/20635f0108000496/downlink", "20635F0108000496", true},
		{"tpx/things/{DevEUI}/downlink", "tpx/things//downlink", "", false},
		{"tpx/things/{DevEUI}/downlink", "tpx/things/a/uplink", "", false},
		{"tpx/things/{DevEUI}/downlink", "tpx/things/a/downlink/b", "", false},
		{"tpx/things/{DevEUI}/downlink", "tpx/things/a", "", false},
		{"x/dev-{DevEUI}.d", "x/dev-ab.d", "AB", true},
		{"x/dev-{DevEUI}.d", "x/dev-.d", "", false},
		{"x/{DevEUI}{FPort}", "x/ab1", "", true},
		{"x/{DevEUI|'None'}", "x/None", "", true},
		{"all/{FPort}/{DevEUI}", "all/2/cd", "CD", true},
		{"all", "all", "", true},
	} {
		p := compile(t, tc.text)
		if devEUI, ok := p.Match(tc.topic); devEUI != tc.devEUI || ok != tc.ok {
			t.Errorf("%s, %s: got %q, %v", tc.text, tc.topic, devEUI, ok)
		}
	}
}

func compile(tb testing.TB, text string) *pattern.Pattern {
	tb.Helper()
	p, err := pattern.Compile(text)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// A topic that is made never has more levels than the pattern, nor wildcards
// or control characters in its values, and the pattern knows it again.
func FuzzPattern(f *testing.F) {
	f.Add("tpx/things/{DevEUI}/uplink", "20635F0108000496")
	f.Add("{$..CustomerData.tags[?(@ =~ /Paris:.*/)]|DevEUI|'None'}/x", "a/b+#\x00")
	f.Add("{Lrrs.Lrr[0].Lrrid}{DevEUI}", "$SYS\ufffe\xff")
	f.Fuzz(func(t *testing.T, text, value string) {
		p, err := pattern.Compile(text)
		if err != nil {
			if e, ok := errors.AsType[*pattern.SyntaxError](err); !ok || e.Position < 1 || e.Position > utf8.RuneCountInString(text)+1 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		doc := `{"DevEUI_uplink":{"DevEUI":` + quote(value) + `,"CustomerData":{"tags":[` + quote(value) + `]}}}`
		topic, err := p.Resolve([]byte(doc), "DevEUI_uplink", "")
		if err != nil {
			return
		}
		s := p.Static()
		if strings.Count(topic, "/") != s.Slashes || len(topic) < s.MinBytes {
			t.Errorf("%q makes %q, but %+v", text, topic, s)
		}
		if s.Wildcards == "" && strings.ContainsAny(topic, "+#") || strings.ContainsRune(topic, 0) || !utf8.ValidString(topic) {
			t.Errorf("%q makes the unsafe topic %q", text, topic)
		}
		if _, ok := p.Match(topic); !ok && text != "" && topic[0] != '_' {
			t.Errorf("%q makes %q, but does not match it", text, topic)
		}
	})
}

// quote makes a JSON string that keeps invalid UTF-8 as it is.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ':
			b.WriteString(`\u00`)
			b.WriteByte("0123456789abcdef"[c>>4])
			b.WriteByte("0123456789abcdef"[c&15])
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func BenchmarkResolve(b *testing.B) {
	for _, tc := range []struct{ name, text string }{
		{"DevEUI", "tpx/things/{DevEUI}/uplink"},
		{"fallback", "mqtt/things/{CustomerData.name|DevEUI|'None'}/uplink"},
		{"JsonPath", "iot/{$..CustomerData.tags[?(@ =~ /Paris:.*/)]}"},
	} {
		b.Run(tc.name, func(b *testing.B) {
			p, doc := compile(b, tc.text), []byte(uplink)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Resolve(doc, "DevEUI_uplink", ""); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestFill(t *testing.T) {
	for text, want := range map[string]string{
		"tpx/things/{DevEUI}/uplink":       "tpx/things/*/uplink",
		"a-{b|c|'x'}/{$..d[?(@ =~ /e/)]}f": "a-*/*f",
		"plain":                            "plain",
		"{a}{b}":                           "**",
	} {
		p, err := pattern.Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Fill("*"); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		if got := p.Map("*", strings.ToUpper); got != strings.ToUpper(want) {
			t.Errorf("%s: %s", text, got)
		}
	}
}
