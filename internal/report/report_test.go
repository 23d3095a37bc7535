package report_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice"
	"sluice/internal/report"
)

const eui = "0251C0DE00000001"

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, document string
		want           report.Report
	}{
		{
			"typed uplink",
			`{"DevEUI_uplink":{"Time":"2026-03-01T10:00:00.250+01:00","DevEUI":"0251C0DE00000001","FPort":7,"FCntUp":18,"FCntDn":3,
			 "payload_hex":"00ff","mic_hex":"5d0e9f31","CustomerID":100009731,"LrrRSSI":-60.0,"CorrelationID":"00000000000000AB",
			 "CustomerData":{"name":"Mill","tags":["gas","site=north"]},"ModelCfg":"1:TagA, 2:Paris:North,gas"}}`,
			report.Report{
				Kind: sluice.KindUplink, DevEUI: eui, Device: eui, CustomerID: "100009731", FPort: "7", FCntUp: "18", FCntDn: "3",
				Payload: "00ff", MIC: "5d0e9f31", CorrelationID: "00000000000000AB", Time: at("2026-03-01T09:00:00.25Z"),
				Name: "Mill", Tags: []string{"gas", "site=north", "TagA", "Paris:North"},
			},
		},
		{
			"untyped uplink",
			` {"DevEUI_uplink" : {"-xmlns":"http://uri.actility.com/lora","DevEUI":"0251c0de00000001","FPort":"7","FCntUp":"18",
			 "CustomerID":"100009731","CustomerData":"{\"name\":\"M\\u00fchle\",\"tags\":[\"gas\",7]}","ModelCfg":"0"}} `,
			report.Report{
				Kind: sluice.KindUplink, DevEUI: eui, Device: "0251c0de00000001", CustomerID: "100009731", FPort: "7", FCntUp: "18",
				Name: "Mühle", Tags: []string{"gas", "7"},
			},
		},
		{
			"number literals keep their text",
			`{"DevEUI_uplink":{"DevEUI":"` + eui + `","FCntUp":1.80e1,"FPort":null}}`,
			report.Report{Kind: sluice.KindUplink, DevEUI: eui, Device: eui, FCntUp: "1.80e1"},
		},
		{
			"an uplink with customer data but no tags has none",
			`{"DevEUI_uplink":{"DevEUI":"` + eui + `","CustomerData":{"alr":{"pro":"A/B","ver":"1"}}}}`,
			report.Report{Kind: sluice.KindUplink, DevEUI: eui, Device: eui, Tags: []string{}},
		},
		{
			"a downlink sent tells only a part of the tags",
			`{"DevEUI_downlink_Sent":{"DevEUI":"` + eui + `","CustomerData":{"tags":["gas"]}}}`,
			report.Report{Kind: sluice.KindDownlinkSent, DevEUI: eui, Device: eui},
		},
		{
			"a base station stands in",
			`{"BS_alarm":{"ID":3,"LrrID":"5e0000a0","DevEUI":["not","read"],"CustomerID":"1","BaseStationData":{"name":"Roof"}}}`,
			report.Report{Kind: sluice.KindBSAlarm, DevEUI: "5E0000A0", Device: "5e0000a0", CustomerID: "1", Name: "Roof"},
		},
		{
			"a command without a device",
			`{"DevEUI_downlink":{"FPort":"8","payload_hex":"01"}}`,
			report.Report{Kind: sluice.KindDownlink, FPort: "8", Payload: "01"},
		},
		{
			"a dashed DevEUI",
			`{"DevEUI_downlink":{"DevEUI":"02-51-c0-de-00-00-00-01"}}`,
			report.Report{Kind: sluice.KindDownlink, DevEUI: eui, Device: "02-51-c0-de-00-00-00-01"},
		},
		{
			"a time that is none",
			`{"DevEUI_location":{"DevEUI":"` + eui + `","Time":"2015-01-27T10:00.123:46+01:00"}}`,
			report.Report{Kind: sluice.KindLocation, DevEUI: eui, Device: eui},
		},
		{
			"fields of other kinds nested deeper are not read",
			`{"DevEUI_uplink":{"payload":{"DevEUI":"FFFFFFFFFFFFFFFF","FCntUp":9},"DevEUI":"` + eui + `"}}`,
			report.Report{Kind: sluice.KindUplink, DevEUI: eui, Device: eui},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := report.Parse([]byte(test.document))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(report.Report{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70)
	for name, document := range map[string]string{
		"nothing":                   ``,
		"no JSON":                   `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001",}}`,
		"cut":                       `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001"}`,
		"more after it":             `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001"}} {}`,
		"an array":                  `[{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001"}}]`,
		"a text":                    `"DevEUI_uplink"`,
		"no root":                   `{}`,
		"two roots":                 `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001"},"DevEUI_location":{}}`,
		"the root twice":            `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001"},"DevEUI_uplink":{}}`,
		"a root that is a number":   `{"DevEUI_uplink":1}`,
		"a root that is an array":   `{"DevEUI_uplink":[{"DevEUI":"0251C0DE00000001"}]}`,
		"a root without a name":     `{"":{}}`,
		"a root with a space":       `{"DevEUI uplink":{}}`,
		"a root with an escape":     `{"DevEUI\u005fuplink":{}}`,
		"a long root":               `{"` + strings.Repeat("a", 65) + `":{}}`,
		"invalid UTF-8":             "{\"DevEUI_uplink\":{\"DevEUI\":\"0251C0DE00000001\",\"x\":\"\xff\"}}",
		"DevEUI twice":              `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001","DevEUI":"0251C0DE00000002"}}`,
		"DevEUI twice, one escaped": `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001","Dev\u0045UI":"0251C0DE00000002"}}`,
		"FCntUp twice":              `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001","FCntUp":1,"FCntUp":2}}`,
		"CustomerData twice":        `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001","CustomerData":{},"CustomerData":{}}}`,
		"DevEUI an object":          `{"DevEUI_uplink":{"DevEUI":{}}}`,
		"DevEUI too short":          `{"DevEUI_uplink":{"DevEUI":"0251C0DE0000001"}}`,
		"DevEUI not hexadecimal":    `{"DevEUI_uplink":{"DevEUI":"0251C0DE0000000G"}}`,
		"DevEUI with a wildcard":    `{"DevEUI_uplink":{"DevEUI":"0251C0DE0000000#"}}`,
		"LrrID with a slash":        `{"BS_alarm":{"LrrID":"5E/000A0"}}`,
		"deep":                      `{"DevEUI_uplink":` + deep + `}`,
		"deep and broken":           strings.Repeat("[", 100_000),
	} {
		_, err := report.Parse([]byte(document))
		var e *sluice.Error
		if !errors.As(err, &e) || e.Code != sluice.CodeInvalid || e.Message == "" || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Many brackets next to each other are not deep.
func TestParseWide(t *testing.T) {
	wide := `{"DevEUI_uplink":{"DevEUI":"` + eui + `","x":[` + strings.Repeat(`{"s":"}]\"{["},`, 500) + `[]]}}`
	if _, err := report.Parse([]byte(wide)); err != nil {
		t.Error(err)
	}
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2026-03-01T10:00:00.123+01:00":  at("2026-03-01T09:00:00.123Z"),
		"2026-03-01T10:00:00Z":           at("2026-03-01T10:00:00Z"),
		"2026-03-01T10:00:00.1234567Z":   at("2026-03-01T10:00:00.1234567Z"),
		"2026-03-01T10:00:00.49+0200":    at("2026-03-01T08:00:00.49Z"),
		"2026-03-01T10:00:00.49-02":      at("2026-03-01T12:00:00.49Z"),
		"2026-03-01T10:00:00":            at("2026-03-01T10:00:00Z"),
		"2026-03-01 10:00:00":            at("2026-03-01T10:00:00Z"),
		"2026-03-01T10:00:00.123 01:00":  at("2026-03-01T09:00:00.123Z"),
		" 2026-03-01T10:00:00.123+01:00": at("2026-03-01T09:00:00.123Z"),
		"":                               {},
		"yesterday":                      {},
		"2026-13-01T10:00:00Z":           {},
		"0001-01-01T00:00:00Z":           {},
		"9999-01-01T00:00:00Z":           {},
		"1772359200":                     {},
	} {
		got, ok := report.ParseTime(text)
		if !got.Equal(want) || ok == want.IsZero() {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	of := func(network, document string) string {
		t.Helper()
		r, err := report.Parse([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		return r.Fingerprint(network, []byte(document))
	}
	uplink := func(fields string) string { return `{"DevEUI_uplink":{"DevEUI":"` + eui + `",` + fields + `}}` }
	base := uplink(`"Time":"2026-03-01T10:00:00Z","FCntUp":5,"payload_hex":"00","mic_hex":"aa"`)
	for name, same := range map[string]string{
		"untyped":                    uplink(`"FCntUp":"5","payload_hex":"00","mic_hex":"aa"`),
		"heard by more stations":     uplink(`"Time":"2026-03-01T10:00:01Z","FCntUp":5,"payload_hex":"00","mic_hex":"aa","DevLrrCnt":2`),
		"the DevEUI in another case": strings.Replace(base, eui, strings.ToLower(eui), 1),
	} {
		if of("n", same) != of("n", base) {
			t.Errorf("%s: differs", name)
		}
	}
	for name, other := range map[string]string{
		"counter": uplink(`"FCntUp":6,"payload_hex":"00","mic_hex":"aa"`),
		"payload": uplink(`"FCntUp":5,"payload_hex":"01","mic_hex":"aa"`),
		"mic":     uplink(`"FCntUp":5,"payload_hex":"00","mic_hex":"ab"`),
		"shifted": uplink(`"FCntUp":5,"payload_hex":"00a","mic_hex":"a"`),
		"device":  strings.Replace(base, eui, "0251C0DE00000002", 1),
		"kind":    strings.Replace(base, "uplink", "downlink_Sent", 1),
	} {
		if of("n", other) == of("n", base) {
			t.Errorf("%s: is the same", name)
		}
	}
	// Two networks that heard one frame.
	if of("m", strings.NewReplacer("aa", "AA", "10:00:00Z", "10:00:02Z").Replace(base)) != of("n", base) {
		t.Error("the frame as another network reports it: differs")
	}
	for name, fields := range map[string]string{
		"no MIC":     `"Time":"2026-03-01T10:00:00Z","FCntUp":5,"payload_hex":"00"`,
		"no payload": `"Time":"2026-03-01T10:00:00Z","FCntUp":5,"mic_hex":"aa"`,
		"no counter": `"Time":"2026-03-01T10:00:00Z","payload_hex":"00","mic_hex":"aa"`,
	} {
		if of("m", uplink(fields)) == of("n", uplink(fields)) {
			t.Errorf("two networks, %s: is the same", name)
		}
	}
	if of("m", strings.Replace(base, "uplink", "downlink_Sent", 1)) == of("n", strings.Replace(base, "uplink", "downlink_Sent", 1)) {
		t.Error("two networks, no uplink: is the same")
	}
	// Without a MIC the time tells two reports apart, however it is written.
	sent := func(time string) string {
		return `{"DevEUI_downlink_Sent":{"DevEUI":"` + eui + `","FCntUp":5,"FCntDn":1,"Time":"` + time + `"}}`
	}
	if of("n", sent("2026-03-01T10:00:00Z")) != of("n", sent("2026-03-01T11:00:00.000+01:00")) {
		t.Error("one time in two zones differs")
	}
	if of("n", sent("2026-03-01T10:00:00Z")) == of("n", sent("2026-03-01T10:00:01Z")) {
		t.Error("two times are the same")
	}
	// Without a counter the whole document does.
	join := func(s string) string {
		return `{"DevEUI_notification":{"DevEUI":"` + eui + `","Type":"` + s + `"}}`
	}
	if of("n", join("join")) == of("n", join("reset")) {
		t.Error("notifications are told apart wrongly")
	}
	if n := len(of("n", base)); n != 22 {
		t.Errorf("%d characters", n)
	}
}

func TestRedact(t *testing.T) {
	const secret = "9311E22D7D44FC52"
	for name, document := range map[string]string{
		"AppSKey":              `{"DevEUI_uplink":{"DevEUI":"1","AppSKey":"` + secret + `"}}`,
		"in another case":      `{"DevEUI_uplink":{"appskey":"` + secret + `"}}`,
		"escaped":              `{"DevEUI_uplink":{"App\u0053Key":"` + secret + `"}}`,
		"an object":            `{"DevEUI_uplink":{"AppSKey":{"value":"` + secret + `"}}}`,
		"in an array":          `{"DevEUI_uplink":{"x":[{"NwkSKey":"` + secret + `"}]}}`,
		"in a text":            `{"DevEUI_uplink":"{\"AppSKey\":\"` + secret + `\"}"}`,
		"AS_KEY":               `{"DevEUI_downlink":{"AS_ID":"a","AS_KEY":"` + secret + `"}}`,
		"Token":                `{"DevEUI_downlink":{"Token":"` + secret + `"}}`,
		"of a join":            `{"DevEUI_notification":{"Type":"join","Var1":"` + secret + `"}}`,
		"not JSON":             `AppSKey=` + secret,
		"XML":                  `<DevEUI_uplink><AppSKey>` + secret + `</AppSKey></DevEUI_uplink>`,
		"too deep to look at":  strings.Repeat(`{"a":`, 70) + `{"AppSKey":"` + secret + `"}` + strings.Repeat("}", 70),
		"twice, the last open": `{"DevEUI_uplink":{"AppSKey":"","AppSKey":"` + secret + `"}}`,
	} {
		if got := string(report.Redact([]byte(document))); strings.Contains(got, secret) {
			t.Errorf("%s: %s", name, got)
		}
	}
	keep := `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001","x":[1.50,null,true,{"a":"{}"}],"Type":"reset","Var1":"admin_reset"}}`
	if got := string(report.Redact([]byte(keep))); got != keep {
		t.Errorf("changed to %s", got)
	}
}
