package thingpark_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/network/thingpark/thingparktest"
)

// vector is a Token that others have published.
type vector struct {
	name, key, asID, now string
	query, body, token   string
}

// vectors are from actility/thingpark-integrations (1), iotacademy's
// LoRaPayloadSimulator, its KPN example (2), and KPN's lora-reference (4, 5, 6).
var vectors = []vector{
	{
		"1: uplink, typed", "f3203a20a2e8dfaf6686b621f56d05e3", "TWA_100002167.1111.AS", "2021-04-07T08:49:51Z",
		"LrnDevEui=20635F0108000496&LrnFPort=17&LrnInfos=TWA_100002167.1111.AS-1-111974&AS_ID=TWA_100002167.1111.AS&Time=2021-04-07T08%3A49%3A51.551%2B00%3A00",
		`{"DevEUI_uplink":{"CustomerID":100002167,"DevEUI":"20635F0108000496","FPort":17,"FCntUp":18,"payload_hex":"032ce4850919d85d4c9f793ad148d24f32f3c6b5488f5a087cbeb1488f5a998c83ab"}}`,
		"196c22898bf95fcf48b72be198c89256410660b9b514539651344baa594ad74f",
	},
	{
		"2: uplink, untyped, + unencoded", "00112233445566778899aabbccddeeff", "hookbin", "2016-07-05T06:58:26Z",
		"LrnDevEui=0059AC000010020D&LrnFPort=2&LrnInfos=TWA_100006246.167.AS-1-1361149&AS_ID=hookbin&Time=2016-07-05T08:58:26.911+02:00",
		`{"DevEUI_uplink":{"CustomerID":"100006246","DevEUI":"0059AC000010020D","FPort":"2","FCntUp":"3","payload_hex":"00277c0878fd9b2e000000000000ffff"}}`,
		"18f44bb294f9dd33b5168eeb92a0c7f9fa807914097dc9bb2ed5a789a65fad33",
	},
	{
		"4: uplink", "c6f5e3b263092120b8766b9aed9c41b4", "TWA_100000001.999", "2018-01-12T09:00:00Z",
		"LrnDevEui=0059AC0000000001&LrnFPort=1&LrnInfos=TWA_100000001.999.AS-1-12345678&AS_ID=TWA_100000001.999&Time=2018-01-12T10:00:00.000%2B01:00",
		`<DevEUI_uplink xmlns="http://uri.actility.com/lora"><CustomerID>100000001</CustomerID><DevEUI>0059AC0000000001</DevEUI><FPort>1</FPort><FCntUp>1</FCntUp><payload_hex>000102030405</payload_hex></DevEUI_uplink>`,
		"5b7ec8b0b2c250fc792c76348de3b16ff04e27050baf8a37c891dcc85e88b0d4",
	},
	{
		"5: downlink sent", "c6f5e3b263092120b8766b9aed9c41b4", "TWA_100000001.999", "2018-01-12T09:00:00Z",
		"LrnDevEui=0059AC0000000001&LrnFPort=1&LrnInfos=TWA_100000001.999.AS-1-12345678&AS_ID=TWA_100000001.999&Time=2018-01-12T10:00:00.000%2B01:00",
		`{"DevEUI_downlink_Sent":{"CustomerID":"100000001","DevEUI":"0059AC0000000001","FPort":1,"FCntDn":1}}`,
		"345dc204c72a9769441c4700cd0a0fb76c5b356e3931540e891fc7e68f236c98",
	},
	{
		"6: location, DevEUI in lower case", "c6f5e3b263092120b8766b9aed9c41b4", "TWA_100000001.999", "2018-01-12T09:00:00Z",
		"LrnDevEui=0059ac0000000001&LrnFPort=0&LrnInfos=TWA_100000001.999.AS-1-12345678&AS_ID=TWA_100000001.999&Time=2018-01-12T10:00:00.000%2B01:00",
		`{"DevEUI_location":{"CustomerID":"100000001","DevEUI":"0059AC0000000001"}}`,
		"d23b3507663d817c77d124cfbe4f1d5a67ba957e91471b39512b8f103fe46a17",
	},
}

func TestTokenVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			d := openDoor(t, signed(v.asID, v.key), clockAt(t, v.now))
			if status, body := d.post(t, v.query+"&Token="+v.token, v.body); status != http.StatusOK {
				t.Fatalf("status %d: %s", status, body)
			}
			// ThingPark's own upper-case keys: some sign with them as they
			// are, some in lower case.
			upper := openDoor(t, signed(v.asID, strings.ToUpper(v.key)), clockAt(t, v.now))
			if status, body := upper.post(t, v.query+"&Token="+strings.ToUpper(v.token), v.body); status != http.StatusOK {
				t.Errorf("key and Token in upper case: status %d: %s", status, body)
			}
			// The application server's address may have parameters of its own.
			if status, body := d.post(t, "token=mine&Time=&"+v.query+"&Token="+v.token+"&time=x", v.body); status != http.StatusOK {
				t.Errorf("own parameters: status %d: %s", status, body)
			}
			for what, query := range map[string]string{
				"another Token":  v.query + "&Token=" + strings.Repeat("0", 64),
				"no Token":       v.query,
				"a short Token":  v.query + "&Token=" + v.token[:62],
				"another infos":  strings.Replace(v.query, "LrnInfos=TWA", "LrnInfos=TWB", 1) + "&Token=" + v.token,
				"another AS":     strings.Replace(v.query, "AS_ID=", "AS_ID=x", 1) + "&Token=" + v.token,
				"another time":   strings.Replace(v.query, "Time=20", "Time=19", 1) + "&Token=" + v.token,
				"no time at all": strings.Split(v.query, "&Time=")[0] + "&Token=" + v.token,
			} {
				if status, body := d.post(t, query, v.body); status != http.StatusUnauthorized {
					t.Errorf("%s: status %d: %s", what, status, body)
				}
			}
			wrong := openDoor(t, signed(v.asID, "0"+v.key[1:]), clockAt(t, v.now))
			if v.key[0] != '0' {
				if status, _ := wrong.post(t, v.query+"&Token="+v.token, v.body); status != http.StatusUnauthorized {
					t.Errorf("another key: status %d", status)
				}
			}
		})
	}
}

func TestAbsentPortAndPayload(t *testing.T) {
	// FPort absent counts as 0 and payload as nothing; the fleet's own signer
	// would say so too, but here the text to sign is spelt out.
	const query = "LrnDevEui=0251C0DE00000001&LrnFPort=0&LrnInfos=i&AS_ID=a&Time=2026-03-01T10:00:00.000Z"
	text := "1000097310251C0DE00000001" + "0" + "18" + query + testKey
	d := openDoor(t, signed("a", testKey), clockAt(t, "2026-03-01T10:00:00Z"))
	body := `{"DevEUI_uplink":{"CustomerID":"100009731","DevEUI":"0251C0DE00000001","FCntUp":18}}`
	if status, answer := d.post(t, query+"&Token="+sha(text), body); status != http.StatusOK {
		t.Errorf("status %d: %s", status, answer)
	}
}

func TestTimeDeviation(t *testing.T) {
	v := vectors[0] // Time 08:49:51.551
	for _, test := range []struct {
		now, allowed string
		status       int
	}{
		{"2021-04-07T08:50:51.551Z", "60s", 200},
		{"2021-04-07T08:50:51.552Z", "60s", 401},
		{"2021-04-07T08:48:51.551Z", "60s", 200},
		{"2021-04-07T08:48:51.550Z", "60s", 401},
		{"2021-04-07T08:54:00Z", "5m", 200},
		{"2026-04-07T08:54:00Z", "0", 200},
	} {
		d := openDoor(t, strings.TrimSuffix(signed(v.asID, v.key), "}")+`,"maxTimeDeviation":"`+test.allowed+`"}`, clockAt(t, test.now))
		if status, body := d.post(t, v.query+"&Token="+v.token, v.body); status != test.status {
			t.Errorf("%s, %s allowed: status %d: %s", test.now, test.allowed, status, body)
		}
	}
}

// What is refused says what is wrong in words that people use.
func TestRefusalSentences(t *testing.T) {
	v := vectors[0]
	configuration := func(allowed string) string {
		return strings.TrimSuffix(signed(v.asID, v.key), "}") + `,"maxTimeDeviation":"` + allowed + `"}`
	}
	for _, test := range []struct{ name, now, allowed, token, body, want string }{
		{"years behind", "2026-11-23T06:12:09Z", "60s", v.token, v.body, "The report's Time (2021-04-07T08:49:51Z) is 5.6 years behind our clock; 60s is allowed."},
		{"days ahead", "2021-03-26T20:49:51.551Z", "5m", v.token, v.body, "The report's Time (2021-04-07T08:49:51Z) is 11.5 days ahead of our clock; 5 min is allowed."},
		{"hours", "2021-04-07T10:49:51.551Z", "90m", v.token, v.body, "The report's Time (2021-04-07T08:49:51Z) is 2 h behind our clock; 90 min is allowed."},
		{"minutes", "2021-04-07T08:47:51.551Z", "60s", v.token, v.body, "The report's Time (2021-04-07T08:49:51Z) is 2 min ahead of our clock; 60s is allowed."},
		{"seconds", "2021-04-07T08:51:21.751Z", "60s", v.token, v.body, "The report's Time (2021-04-07T08:49:51Z) is 90.2s behind our clock; 60s is allowed."},
		{"just over", "2021-04-07T08:50:51.552Z", "60s", v.token, v.body, "The report's Time (2021-04-07T08:49:51Z) is 1m0.001s behind our clock; 60s is allowed."},
		{"long Token", "2021-04-07T08:49:51Z", "60s", v.token + "00", v.body, "The Token must be 64 hexadecimal digits; this has 66."},
		{"odd Token", "2021-04-07T08:49:51Z", "60s", "x" + v.token[1:], v.body, "The Token must be 64 hexadecimal digits; this has other characters."},
		{"empty", "2021-04-07T08:49:51Z", "60s", v.token, "", "The body is empty."},
		{"blank", "2021-04-07T08:49:51Z", "60s", v.token, " \r\n", "The body is empty."},
		{"too large", "2021-04-07T08:49:51Z", "60s", v.token, strings.Repeat(" ", 128<<10+1), "The report is over 128 KiB, the most that is taken."},
	} {
		d := openDoor(t, configuration(test.allowed), clockAt(t, test.now))
		_, body := d.post(t, v.query+"&Token="+test.token, test.body)
		var e struct{ Message string }
		_ = json.Unmarshal([]byte(body), &e)
		if e.Message != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, e.Message, test.want)
		}
	}
}

var allKinds = []sluice.Kind{
	sluice.KindUplink, thingparktest.JoinRequest, sluice.KindDownlinkSent, sluice.KindLocation, sluice.KindNotification,
	sluice.KindMulticastSummary, sluice.KindAlarm, sluice.KindBSAlarm, "DevEUI_novelty",
}

// All kinds in all forms give the same message.
func TestForms(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 123e6, time.FixedZone("", 3600))
	clock := func() time.Time { return now }
	type identity struct {
		Kind         sluice.Kind
		DevEUI, Name string
		Time         time.Time
		Tags         []string
	}
	for _, kind := range allKinds {
		t.Run(string(kind), func(t *testing.T) {
			d := openDoor(t, signed(testASID, testKey), clock)
			var first *sluice.Message
			for _, form := range []thingparktest.Form{thingparktest.Typed, thingparktest.Untyped, thingparktest.XML} {
				f := newFleet(t, thingparktest.FleetOptions{
					URL: d.url + "?token=mine", ASID: testASID, ASKey: testKey, Clock: clock, ModelCfg: "1:TagA", Tags: []string{"gas", "site=north"},
				})
				report := f.Make(kind, form, 3)
				if r := f.Send(t.Context(), report); !r.Accepted() {
					t.Fatalf("form %d: %+v\n%s\n%+v", form, r, report.Body, d.events.All())
				}
				all := d.taken()
				m := all[len(all)-1]
				if form != thingparktest.XML && !bytes.Equal(m.Document, report.Body) {
					t.Errorf("form %d: the document has changed", form)
				}
				if first == nil {
					first = m
				}
				a := identity{first.Kind, first.DevEUI, first.Name, first.Time, first.Tags}
				b := identity{m.Kind, m.DevEUI, m.Name, m.Time, m.Tags}
				if diff := cmp.Diff(a, b); diff != "" {
					t.Errorf("form %d: %s", form, diff)
				}
				if m.DevEUI != report.DevEUI {
					t.Errorf("DevEUI %s, want %s", m.DevEUI, report.DevEUI)
				}
				if kind == sluice.KindUplink && m.Fingerprint != first.Fingerprint {
					t.Errorf("form %d: another fingerprint", form)
				}
				if form == thingparktest.XML {
					sameTypes(t, first.Document, m.Document)
				}
			}
		})
	}
}

// sameTypes checks that XML became the document that typed JSON is: the same
// members with the same types.
func sameTypes(t *testing.T, typed, converted []byte) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal(typed, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(converted, &b); err != nil {
		t.Fatalf("%v: %s", err, converted)
	}
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("typed JSON and XML differ: %s", d)
	}
}

func TestUnpublishedKinds(t *testing.T) {
	d := openDoor(t, signed(testASID, testKey), nil)
	f := newFleet(t, thingparktest.FleetOptions{URL: d.url, ASID: testASID, ASKey: "0" + testKey[1:]})
	for _, kind := range allKinds {
		r := f.Send(t.Context(), f.Make(kind, thingparktest.Typed, 0))
		if r.Status != http.StatusUnauthorized {
			t.Errorf("%s with another key: %+v", kind, r)
		}
	}
	var named []string
	for _, e := range d.events.All() {
		if strings.Contains(e.Detail, "not published") {
			named = append(named, e.Detail[strings.LastIndex(e.Detail, "signs ")+6:])
		}
	}
	want := []string{"DevEUI_uplink.", "DevEUI_multicast_summary.", "DevEUI_alarm.", "BS_alarm.", "DevEUI_novelty, a kind of report that is not documented."}
	if diff := cmp.Diff(want, named); diff != "" {
		t.Errorf("events name the kinds: %s", diff)
	}
}

// A kind that nobody has documented, with a Token that verifies in no known
// form, is refused with an event that names it, and strangers who make up
// kinds do not make an event each.
func TestUndocumentedKindIsNamed(t *testing.T) {
	d := openDoor(t, signed("a", testKey), clockAt(t, "2026-03-01T10:00:00Z"))
	const query = "LrnDevEui=0251C0DE00000001&LrnFPort=0&LrnInfos=i&AS_ID=a&Time=2026-03-01T10:00:00.000Z&Token="
	for n := range 20 {
		status, answer := d.post(t, query+sha("wrong"), fmt.Sprintf(`{"DevEUI_novelty%d":{"CustomerID":"1","DevEUI":"0251C0DE00000001"}}`, n))
		if status != http.StatusUnauthorized || !strings.Contains(answer, fmt.Sprintf("DevEUI_novelty%d,", n)) {
			t.Errorf("status %d: %s", status, answer)
		}
	}
	if all := d.events.All(); len(all) != 1 || all[0].Type != sluice.EventUplinkRefused || !strings.Contains(all[0].Detail, "DevEUI_novelty0,") {
		t.Errorf("events %+v", all)
	}
	if n := len(d.taken()); n != 0 {
		t.Errorf("%d were taken", n)
	}
}

func TestUnsignedNetwork(t *testing.T) {
	d := openDoor(t, `{}`, nil)
	f := newFleet(t, thingparktest.FleetOptions{URL: d.url})
	if r := f.Post(t.Context(), 0); !r.Accepted() {
		t.Errorf("unsigned: %+v", r)
	}
	f = newFleet(t, thingparktest.FleetOptions{URL: d.url, ASID: "someone", ASKey: testKey})
	if r := f.Post(t.Context(), 0); !r.Accepted() {
		t.Errorf("signed with a key that is not known: %+v", r)
	}
}

func TestRefusals(t *testing.T) {
	d := openDoor(t, `{}`, nil)
	const eui = "0251C0DE00000001"
	good := `{"DevEUI_uplink":{"DevEUI":"` + eui + `","FCntUp":1}}`
	big := `{"DevEUI_uplink":{"DevEUI":"` + eui + `","x":"` + strings.Repeat("a", 128<<10) + `"}}`
	for _, test := range []struct {
		name, query, body string
		status            int
		code              string
	}{
		{"fine", "LrnDevEui=" + eui, good, 200, ""},
		{"fine in lower case", "LrnDevEui=" + strings.ToLower(eui), good, 200, ""},
		{"fine, parameter in another case", "lrndeveui=" + eui, good, 200, ""},
		{"no query", "", good, 200, ""},
		{"an odd query", "&&=&%zz&LrnDevEui", good, 200, ""},
		{"nothing", "", "", 400, "com-4000"},
		{"no document", "", "hello", 400, "com-4000"},
		{"not JSON", "", good[1:], 400, "com-4000"},
		{"not XML", "", "<DevEUI_uplink>", 400, "com-4000"},
		{"a page", "", "<html><body>x</body></html>", 400, "com-4000"},
		{"no device", "", `{"DevEUI_uplink":{"FCntUp":1}}`, 400, "com-4000"},
		{"a command", "", `{"DevEUI_downlink":{"DevEUI":"` + eui + `","FPort":1,"payload_hex":"00"}}`, 400, "com-4000"},
		{"another device", "LrnDevEui=0251C0DE00000002", good, 400, "com-4000"},
		{"no DevEUI in the address", "LrnDevEui=x", good, 400, "com-4000"},
		{"too large", "", big, 413, "com-4013"},
		{"just not too large", "", big[:len(big)-128<<10] + strings.Repeat(" ", 128<<10-len(good)-8) + "", 400, "com-4000"},
	} {
		status, body := d.post(t, test.query, test.body)
		var e struct{ Code, Message string }
		_ = json.Unmarshal([]byte(body), &e)
		if status != test.status || e.Code != test.code || (e.Message == "") != (test.code == "") {
			t.Errorf("%s: status %d: %s", test.name, status, body)
		}
	}
}

func TestTooLargeInChunks(t *testing.T) {
	d := openDoor(t, `{}`, nil)
	body := io.MultiReader(strings.NewReader("{"), strings.NewReader(strings.Repeat(" ", 128<<10)))
	response, err := http.Post(d.url, "application/json", body) // of unknown length
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", response.StatusCode)
	}
}

// A client that stalls in the middle of a body is answered, and let go.
func TestStalledBody(t *testing.T) {
	for _, test := range []struct {
		configuration string
		status        int
	}{{`{}`, http.StatusRequestTimeout}, {signed(testASID, testKey), http.StatusUnauthorized}} {
		d := openDoor(t, test.configuration, nil)
		u, _ := url.Parse(d.url)
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{", u.Path)
		r := bufio.NewReader(c)
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("status %d, want %d", response.StatusCode, test.status)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("the connection is still open: %v", err)
		}
		if len(d.taken()) > 0 {
			t.Error("it was handled")
		}
	}
}

// One connection carries many reports, also after refusals and waits.
func TestKeepAlive(t *testing.T) {
	d := openDoor(t, signed(testASID, testKey), nil)
	f := newFleet(t, thingparktest.FleetOptions{URL: d.url, ASID: testASID, ASKey: testKey})
	u, _ := url.Parse(d.url)
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	reader := bufio.NewReader(c)
	post := func(query string, body []byte) int {
		t.Helper()
		_, _ = fmt.Fprintf(c, "POST %s?%s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", u.Path, query, len(body), body)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	for i := range 6 {
		r := f.Make(sluice.KindUplink, thingparktest.Typed, 0)
		// The handler takes longer than a body may take to come in: the
		// deadline of the body must not end it.
		d.mu.Lock()
		d.handle = nil
		if i == 2 {
			d.handle = func(ctx context.Context, _ *sluice.Message) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(700 * time.Millisecond):
					return nil
				}
			}
		}
		d.mu.Unlock()
		if status := post(r.Query, r.Body); status != 200 {
			t.Errorf("report %d: status %d", i, status)
		}
		if status := post("", r.Body); status != 401 {
			t.Errorf("unsigned: status %d", status)
		}
	}
	if n := len(d.taken()); n != 6 {
		t.Errorf("%d reports were handled", n)
	}
}

// A report is held even when its sender goes away: it will not come again.
func TestSenderGoesAway(t *testing.T) {
	d := openDoor(t, `{}`, nil)
	u, _ := url.Parse(d.url)
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	entered, gone, held := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	d.handle = func(ctx context.Context, _ *sluice.Message) error {
		close(entered)
		<-gone
		held <- ctx.Err()
		return nil
	}
	body := `{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001"}}`
	_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", u.Path, len(body), body)
	<-entered
	_ = c.Close()
	close(gone)
	if err := <-held; err != nil {
		t.Errorf("the context had ended: %v", err)
	}
}

func TestNoSecretsTold(t *testing.T) {
	const appSKey = "DEADBEEFDEADBEEFDEADBEEFDEADBEEF"
	d := openDoor(t, signed(testASID, testKey), nil)
	f := newFleet(t, thingparktest.FleetOptions{URL: d.url, ASID: testASID, ASKey: testKey})
	leak := func(r *thingparktest.Report, old, changed string) string {
		r.Body = bytes.Replace(r.Body, []byte(old), []byte(changed), 1)
		response, err := http.Post(d.url+"?"+r.Query, r.ContentType, bytes.NewReader(r.Body))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		answer, _ := io.ReadAll(response.Body)
		return string(answer)
	}
	defer http.DefaultClient.CloseIdleConnections()
	told := leak(f.Make(sluice.KindUplink, thingparktest.Typed, 0), `"FCntUp":`, `"AppSKey":"`+appSKey+`","FCntUp":9`)
	told += leak(f.Make(sluice.KindUplink, thingparktest.Typed, 0), `"DevEUI":`, `"AppSKey":"`+appSKey+`","DevEUI":{},"x":`)
	d.handle = func(context.Context, *sluice.Message) error { return io.ErrShortWrite }
	told += leak(f.Make(sluice.KindUplink, thingparktest.Typed, 0), `"DevEUI":`, `"AppSKey":"`+appSKey+`","DevEUI":`)
	if got := d.taken(); len(got) != 1 || !bytes.Contains(got[0].Document, []byte(appSKey)) {
		t.Error("a document does not pass through untouched")
	}
	told += fmt.Sprint(d.events.All()) + d.log.String()
	if strings.Contains(told, appSKey) || strings.Contains(told, testKey) {
		t.Error("told a secret:", told)
	}
	if n := len(d.events.All()); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}

// A flood of refusals is told in a few events that count them.
func TestFloodOfRefusals(t *testing.T) {
	d := openDoor(t, signed(testASID, testKey), nil)
	f := newFleet(t, thingparktest.FleetOptions{URL: d.url, ASID: testASID, ASKey: "0" + testKey[1:]})
	const n = 200
	refused := make(chan int, n)
	if err := f.Run(t.Context(), thingparktest.Load{Count: n}, func(r thingparktest.Result) { refused <- r.Status }); err != nil {
		t.Fatal(err)
	}
	for range n {
		if status := <-refused; status != http.StatusUnauthorized {
			t.Fatalf("status %d", status)
		}
	}
	if got := d.events.All(); len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	d.network.Close()
	got := d.events.All()
	if len(got) != 2 || !strings.Contains(got[1].Detail, "(199 more") {
		t.Errorf("events: %+v", got)
	}
	for _, e := range got {
		if e.Type != sluice.EventUplinkRefused || e.Level != sluice.LevelWarning || e.Network != "n1" || e.DevEUI == "" || e.Hint == "" || e.Reason != sluice.ReasonAuthentication {
			t.Errorf("event %+v", e)
		}
	}
}
