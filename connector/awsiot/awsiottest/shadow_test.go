package awsiottest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"

	"sluice/connector/awsiot/awsiottest"
)

// state reads a shadow's document.
func state(t *testing.T, document []byte) (out struct {
	State   map[string]map[string]any
	Version int64
},
) {
	t.Helper()
	if err := json.Unmarshal(document, &out); err != nil {
		t.Fatalf("%v in %q", err, document)
	}
	return out
}

func TestShadowOverHTTP(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := dataSDK(t, s, everything(s)), deadline(t)
	thing := aws.String("lamp")
	update := func(name *string, body string) error {
		_, err := c.UpdateThingShadow(ctx, &iotdataplane.UpdateThingShadowInput{ThingName: thing, ShadowName: name, Payload: []byte(body)})
		return err
	}
	if _, err := c.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: thing}); code(err) != "ResourceNotFoundException" || message(err) != "No shadow exists with name: 'lamp'" {
		t.Errorf("none: %v", err)
	}
	if err := update(nil, `{"state":{"desired":{"on":true},"reported":{"on":false}}}`); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		`{"state":{},"version":7}`: "ConflictException", `{`: "InvalidRequestException",
		`{"state":{"desired":{"a":"` + strings.Repeat("x", 8<<10) + `"}}}`: "RequestEntityTooLargeException",
		"\xff": "UnsupportedDocumentEncodingException",
	} {
		if err := update(nil, name); code(err) != want {
			t.Errorf("%.30s: %v, want %s", name, err, want)
		}
	}
	for _, name := range []string{"one", "two"} {
		if err := update(&name, `{"state":{"reported":{"a":1}}}`); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: thing})
	if err != nil {
		t.Fatal(err)
	}
	if doc := state(t, got.Payload); doc.Version != 1 || doc.State["delta"]["on"] != true {
		t.Errorf("document %s", got.Payload)
	}
	list := &iotdataplane.ListNamedShadowsForThingInput{ThingName: thing, PageSize: aws.Int32(1)}
	if _, err := c.ListNamedShadowsForThing(ctx, list); code(err) != "ResourceNotFoundException" {
		t.Errorf("a thing that is not registered: %v", err)
	}
	if _, err := s.CreateThing("lamp", "", nil); err != nil {
		t.Fatal(err)
	}
	first, err := c.ListNamedShadowsForThing(ctx, list)
	if err != nil || !cmp.Equal(first.Results, []string{"one"}) || first.NextToken == nil || first.Timestamp == 0 {
		t.Fatalf("%+v %v", first, err)
	}
	list.NextToken = first.NextToken
	if second, err := c.ListNamedShadowsForThing(ctx, list); err != nil || !cmp.Equal(second.Results, []string{"two"}) || second.NextToken != nil {
		t.Errorf("%+v %v", second, err)
	}
	if err := update(aws.String("a b"), `{"state":{}}`); code(err) != "InvalidRequestException" {
		t.Errorf("a bad name: %v", err)
	}
	deleted, err := c.DeleteThingShadow(ctx, &iotdataplane.DeleteThingShadowInput{ThingName: thing})
	if err != nil || state(t, deleted.Payload).Version != 1 {
		t.Errorf("%+v %v", deleted, err)
	}
	if _, ok := s.Shadow("lamp", ""); ok {
		t.Error("the shadow is still there")
	}
	if _, ok := s.Shadow("lamp", "one"); !ok {
		t.Error("the named shadow is gone")
	}
}

// TestShadowPermissions asks for them on the thing, and on the shadow of it.
func TestShadowPermissions(t *testing.T) {
	s := start(t, awsiottest.Options{})
	key, err := s.CreateUser("reader", `{"Statement":[
		{"Effect":"Allow","Action":"iot:GetThingShadow","Resource":"*:thing/lamp"},
		{"Effect":"Allow","Action":"iot:*Shadow","Resource":"*:thing/lamp/own"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "own"} {
		if err := s.UpdateShadow("lamp", name, []byte(`{"state":{"reported":{"a":1}}}`)); err != nil {
			t.Fatal(err)
		}
	}
	cert := newCertificate(t, s, true)
	certified := newDevice(t, s, "https://"+s.Addr8443(), &cert)
	if status, out := certified.do("GET", "/things/lamp/shadow", nil, nil); status != 200 || out["version"] != 1.0 {
		t.Errorf("with a certificate: %d %v", status, out)
	}
	if status, out := certified.do("PUT", "/things/lamp/shadow", nil, nil); status != 405 {
		t.Errorf("PUT: %d %v", status, out)
	}
	c, ctx := dataSDK(t, s, provider(key)), deadline(t)
	thing := aws.String("lamp")
	for name, want := range map[string]string{"": "ForbiddenException", "own": ""} {
		var shadow *string
		if name != "" {
			shadow = &name
		}
		if _, err := c.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: thing, ShadowName: shadow}); err != nil {
			t.Errorf("get %q: %v", name, err)
		}
		if _, err := c.DeleteThingShadow(ctx, &iotdataplane.DeleteThingShadowInput{ThingName: thing, ShadowName: shadow}); code(err) != want {
			t.Errorf("delete %q: %v, want %q", name, err, want)
		}
	}
}

// shadowClient publishes requests and takes answers.
type shadowClient struct {
	*client
	t    *testing.T
	path string
}

func newShadowClient(t *testing.T, s *awsiottest.Server, path string) shadowClient {
	t.Helper()
	c := connect(t, s, dialer{id: "shadows"})
	var filters []string
	for _, topic := range []string{"get/accepted", "get/rejected", "update/accepted", "update/rejected", "update/delta", "update/documents", "delete/accepted", "delete/rejected"} {
		filters = append(filters, path+topic)
	}
	c.subscribe(t, filters...)
	return shadowClient{client: c, t: t, path: path}
}

func (c shadowClient) ask(op, body string) {
	c.t.Helper()
	if _, err := c.publish(c.t, c.path+op, []byte(body)); err != nil {
		c.t.Fatal(err)
	}
}

// answer receives a message, which must be on a topic.
func (c shadowClient) answer(topic string) map[string]any {
	c.t.Helper()
	p := c.receive(c.t)
	if p.Topic != c.path+topic {
		c.t.Fatalf("%s on %s, want %s", p.Payload, p.Topic, topic)
	}
	var out map[string]any
	if err := json.Unmarshal(p.Payload, &out); err != nil {
		c.t.Fatal(err)
	}
	return out
}

// TestShadowOverMQTT asks for a classic and for a named shadow.
func TestShadowOverMQTT(t *testing.T) {
	for name, path := range map[string]string{"classic": "$aws/things/lamp/shadow/", "named": "$aws/things/lamp/shadow/name/own/"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, awsiottest.Options{})
			c := newShadowClient(t, s, path)
			c.ask("get", `{"clientToken":"1"}`)
			if out := c.answer("get/rejected"); out["code"] != 404.0 || out["clientToken"] != "1" {
				t.Errorf("%v", out)
			}
			c.ask("update", `{"state":{"desired":{"on":true}},"clientToken":"2"}`)
			if out := c.answer("update/accepted"); out["version"] != 1.0 || out["clientToken"] != "2" {
				t.Errorf("%v", out)
			}
			if out := c.answer("update/documents"); out["current"] == nil {
				t.Errorf("%v", out)
			}
			if out := c.answer("update/delta"); !cmp.Equal(out["state"], map[string]any{"on": true}) {
				t.Errorf("%v", out)
			}
			c.ask("update", `{"state":{"reported":{"on":true}},"version":1}`)
			c.answer("update/accepted")
			c.answer("update/documents")
			c.ask("update", `{"state":{},"version":1}`)
			if out := c.answer("update/rejected"); out["code"] != 409.0 || out["message"] != "Version conflict" {
				t.Errorf("%v", out)
			}
			c.ask("get", "")
			if out := c.answer("get/accepted"); out["version"] != 2.0 {
				t.Errorf("%v", out)
			}
			c.ask("delete", "")
			if out := c.answer("delete/accepted"); out["version"] != 2.0 {
				t.Errorf("%v", out)
			}
			c.ask("delete", "")
			if out := c.answer("delete/rejected"); out["code"] != 404.0 {
				t.Errorf("%v", out)
			}
		})
	}
}

// TestShadowCarriers has MQTT see what HTTP changes, and not what it refuses;
// a request may be published over HTTP, too.
func TestShadowCarriers(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := newShadowClient(t, s, "$aws/things/lamp/shadow/")
	h, ctx := dataSDK(t, s, everything(s)), deadline(t)
	update := func(body string) error {
		_, err := h.UpdateThingShadow(ctx, &iotdataplane.UpdateThingShadowInput{ThingName: aws.String("lamp"), Payload: []byte(body)})
		return err
	}
	if err := update("{"); err == nil {
		t.Error("half an object is taken")
	}
	if err := update(`{"state":{"desired":{"on":true}}}`); err != nil {
		t.Fatal(err)
	}
	c.answer("update/accepted")
	c.answer("update/documents")
	c.answer("update/delta")
	if _, err := h.Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("$aws/things/lamp/shadow/get")}); err != nil {
		t.Fatal(err)
	}
	c.answer("get/accepted")
	if _, err := h.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: aws.String("lamp")}); err != nil {
		t.Fatal(err) // its answer is not published
	}
	if _, err := h.DeleteThingShadow(ctx, &iotdataplane.DeleteThingShadowInput{ThingName: aws.String("lamp")}); err != nil {
		t.Fatal(err)
	}
	c.answer("delete/accepted")
	c.ask("update", `{"state":{"reported":{"a":`+strings.Repeat("[", 7)+strings.Repeat("]", 7)+`}}}`)
	if out := c.answer("update/rejected"); out["message"] != "JSON contains too many levels of nesting; maximum is 6" {
		t.Errorf("%v", out)
	}
}

// TestShadowsInFlight leaves ten requests of a thing unanswered: the next one
// is refused, over both carriers, and those of other things are not.
func TestShadowsInFlight(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := newShadowClient(t, s, "$aws/things/lamp/shadow/")
	s.DelayShadows(time.Hour) // until it is closed
	for i := range 10 {
		c.ask("update", fmt.Sprintf(`{"state":{"reported":{"n":%d}}}`, i))
	}
	c.ask("get", "")
	if out := c.answer("get/rejected"); out["code"] != 429.0 {
		t.Errorf("%v", out)
	}
	h, ctx := dataSDK(t, s, everything(s)), deadline(t)
	if _, err := h.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: aws.String("lamp")}); code(err) != "ThrottlingException" {
		t.Errorf("HTTP: %v", err)
	}
	s.DelayShadows(0)
	if _, err := h.GetThingShadow(ctx, &iotdataplane.GetThingShadowInput{ThingName: aws.String("other")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("another thing: %v", err)
	}
}

// TestShadowRate is twenty requests of a thing a second.
func TestShadowRate(t *testing.T) {
	now := time.Now()
	s := start(t, awsiottest.Options{Clock: func() time.Time { return now }})
	c, ctx := dataSDK(t, s, everything(s)), deadline(t)
	throttled := 0
	for range 25 {
		_, err := c.UpdateThingShadow(ctx, &iotdataplane.UpdateThingShadowInput{ThingName: aws.String("lamp"), Payload: []byte(`{"state":{}}`)})
		if code(err) == "ThrottlingException" {
			throttled++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if throttled != 5 {
		t.Errorf("%d of 25 throttled, want 5", throttled)
	}
	m := newShadowClient(t, s, "$aws/things/lamp/shadow/")
	if _, err := m.Publish(ctx, &paho.Publish{Topic: "$aws/things/lamp/shadow/get"}); err != nil {
		t.Fatal(err)
	}
	if out := m.answer("get/rejected"); out["code"] != 429.0 {
		t.Errorf("%v", out)
	}
}
