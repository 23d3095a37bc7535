package report_test

import (
	"errors"
	"strings"
	"testing"

	"sluice"
	"sluice/internal/report"
)

func TestFromXML(t *testing.T) {
	for _, test := range []struct{ name, xml, want string }{
		{
			"an uplink",
			`<?xml version="1.0" encoding="utf-8"?>
			<DevEUI_uplink xmlns="http://uri.actility.com/lora" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
				<DevEUI>0251C0DE00000001</DevEUI><FPort>7</FPort><FCntUp> 18 </FCntUp><payload_hex>0012</payload_hex>
				<LrrRSSI>-60.000000</LrrRSSI><Lrcid>00000017</Lrcid><CustomerID>100009731</CustomerID>
				<Lrrs><Lrr><Lrrid>5E0000A0</Lrrid><Chain>0</Chain><LrrSNR>9.75</LrrSNR></Lrr></Lrrs>
				<CustomerData>{"tags":["gas"],"name":"A &amp; B"}</CustomerData><Novel>007</Novel>
			</DevEUI_uplink>`,
			`{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001","FPort":7,"FCntUp":18,"payload_hex":"0012",` +
				`"LrrRSSI":-60.000000,"Lrcid":"00000017","CustomerID":"100009731",` +
				`"Lrrs":{"Lrr":[{"Lrrid":"5E0000A0","Chain":0,"LrrSNR":9.75}]},` +
				`"CustomerData":{"tags":["gas"],"name":"A & B"},"Novel":"007"}}`,
		},
		{
			"several base stations, apart from each other",
			`<R><Lrrs><Lrr><Chain>0</Chain></Lrr><x/><Lrr><Chain>1</Chain></Lrr></Lrrs></R>`,
			`{"R":{"Lrrs":{"Lrr":[{"Chain":0},{"Chain":1}],"x":""}}}`,
		},
		{"no base station", `<R><Lrrs></Lrrs></R>`, `{"R":{"Lrrs":{}}}`},
		{"another element that repeats", `<R><a>1</a><a>2</a></R>`, `{"R":{"a":["1","2"]}}`},
		{
			"numbers that are none in JSON stay text",
			`<R><FPort/><FCntUp>007</FCntUp><LrrSNR>+5</LrrSNR><LrrESP>NaN</LrrESP><Late>1 2</Late></R>`,
			`{"R":{"FPort":"","FCntUp":"007","LrrSNR":"+5","LrrESP":"NaN","Late":"1 2"}}`,
		},
		{
			"objects that are none stay text",
			`<R><CustomerData>{"a":</CustomerData><DriverCfg>{}</DriverCfg></R>`,
			`{"R":{"CustomerData":"{\"a\":","DriverCfg":{}}}`,
		},
		{"texts are escaped", "<R><a>\"\\\n\t&lt;ü</a><b><![CDATA[<x>]]></b></R>", `{"R":{"a":"\"\\\u000a\u0009<ü","b":"<x>"}}`},
		{"prefixes and attributes", `<l:R xmlns:l="u" version="2"><l:a unit="C">1</l:a></l:R>`, `{"R":{"-version":"2","a":"1"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := report.FromXML([]byte(test.xml))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestReadXML(t *testing.T) {
	document, r, err := report.Read([]byte("\ufeff\n <DevEUI_uplink><DevEUI>0251c0de00000001</DevEUI><FCntUp>7</FCntUp></DevEUI_uplink>"))
	if err != nil {
		t.Fatal(err)
	}
	if r.DevEUI != eui || r.FCntUp != "7" || string(document) != `{"DevEUI_uplink":{"DevEUI":"0251c0de00000001","FCntUp":7}}` {
		t.Errorf("%+v from %s", r, document)
	}
	json := []byte(`{"DevEUI_uplink":{"DevEUI":"0251C0DE00000001"}}`)
	if document, _, err = report.Read(json); err != nil || string(document) != string(json) {
		t.Errorf("JSON became %s, %v", document, err)
	}
}

func TestFromXMLRefuses(t *testing.T) {
	for name, document := range map[string]string{
		"nothing":         `<?xml version="1.0"?>`,
		"cut":             `<R><a>`,
		"tags crossed":    `<R><a><b></a></b></R>`,
		"one more end":    `<R></R></R>`,
		"two roots":       `<R/><R/>`,
		"text outside":    `<R/>x`,
		"a document type": `<!DOCTYPE R [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><R>&b;</R>`,
		"an entity":       `<R>&unknown;</R>`,
		"too deep":        strings.Repeat("<a>", 17) + strings.Repeat("</a>", 17),
		"too many":        "<R>" + strings.Repeat("<a/>", 8192) + "</R>",
		"other encoding":  `<?xml version="1.0" encoding="UTF-16"?><R/>`,
		"invalid UTF-8":   "<R>\xff</R>",
	} {
		_, err := report.FromXML([]byte(document))
		var e *sluice.Error
		if !errors.As(err, &e) || e.Code != sluice.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := report.Read([]byte("<html><body>hello</body></html>")); err != nil {
		t.Log("a page is read, but names no device:", err)
	}
}
