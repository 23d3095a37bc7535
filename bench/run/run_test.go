package run

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if code, child := Child(); child {
		os.Exit(code)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// tiny makes everything happen, and nothing long enough to mean anything.
func tiny(t *testing.T) (Options, *bytes.Buffer) {
	out := &bytes.Buffer{}
	return Options{
		Seconds: 1, Pairs: 1, Devices: 60, Concurrency: 4, Rate: 50, Outage: 1, Dir: t.TempDir(), Out: out, short: true,
	}, out
}

func TestCompare(t *testing.T) {
	o, out := tiny(t)
	o.Others, o.Profile = true, t.TempDir()
	if err := Run(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := out.String()
	for _, row := range []string{nameSluice, regexp.QuoteMeta(nameYardstick)} {
		// | name | msg/s | CPU | MB | p50 / p99 | lost | lost | lost |
		line := regexp.MustCompile(`\| ` + row + ` \| [1-9]\d* \| \d+\.\d \| [1-9]\d* \| [\d.]+ / [\d.]+ \| 0 of [1-9]\d* \| 0 of [1-9]\d* \| 0 of [1-9]\d* \|`)
		if !line.MatchString(text) {
			t.Errorf("no line that is as it should be for %s", row)
		}
	}
	for _, want := range []string{"| " + nameAlone, "throughput: ", "CPU a report: "} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing like %q is printed", want)
		}
	}
	for _, wrong := range []string{"MISSING", "strangers"} {
		if strings.Contains(text, wrong) {
			t.Errorf("%s is told", wrong)
		}
	}
	if info, err := os.Stat(o.Profile + "/sluice-cpu.prof"); err != nil || info.Size() == 0 {
		t.Errorf("no profile: %v", err)
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestMosquitto(t *testing.T) {
	program := findMosquitto()
	if program == "" {
		t.Skip("mosquitto is not installed")
	}
	o, _ := tiny(t)
	s, err := measureSpeed(t.Context(), &o, mosquitto(program))
	if err != nil {
		t.Fatal(err)
	}
	if s.missing+s.strangers > 0 || s.perSecond == 0 {
		t.Errorf("measured %+v", s)
	}
	for _, f := range faults()[:1] {
		l, err := measureLoss(t.Context(), &o, mosquitto(program), f)
		if err != nil || l.lost > 0 || l.accepted == 0 {
			t.Errorf("%s: %v, %v", f.name, l, err)
		}
	}
}

func TestShares(t *testing.T) {
	o, out := tiny(t)
	o.Connections = []int{1, 3}
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\n| 3 | ") {
		t.Error(out)
	}
}

func TestPaced(t *testing.T) {
	o, out := tiny(t)
	o.Paced = true
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "; 0 of ") {
		t.Error(out)
	}
}

func TestIsolation(t *testing.T) {
	o, out := tiny(t)
	o.Pairs, o.Isolation = 2, true
	if err := Run(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(out.String(), "| 0 | 0 |\n"); n != len(ailments()) {
		t.Errorf("%d ailments without refusal or loss:\n%s", n, out)
	}
}

func TestOptions(t *testing.T) {
	good := Options{Seconds: 1, Pairs: 1, Devices: 60, Concurrency: 4, Rate: 50, Outage: 1}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Options){
		"no seconds":           func(o *Options) { o.Seconds = 0 },
		"too few devices":      func(o *Options) { o.Devices = 3 },
		"an unknown measure":   func(o *Options) { o.Only = "beauty" },
		"too many connections": func(o *Options) { o.Connections = []int{61} },
	} {
		o := good
		change(&o)
		if o.check() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	q := Options{Devices: 5000}.Quick()
	if q.Seconds > 2 || q.Devices > 500 || q.Pairs != 1 {
		t.Errorf("quick is %+v", q)
	}
}

func TestMedian(t *testing.T) {
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("the median of 1, 2, 3 is %v", got)
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("the median of 1 to 4 is %v", got)
	}
}
