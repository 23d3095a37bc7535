package awsiot_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

const mayAll = `{"Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`

// assumer makes a user who may assume a role and nothing else.
func (c *cloud) assumer(t *testing.T, externalID string) (changes map[string]any) {
	t.Helper()
	user, err := c.CreateUser("bridge", `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}`)
	if err != nil {
		t.Fatal(err)
	}
	role, err := c.CreateRole(awsiottest.Role{Name: "iot", ExternalID: externalID, Policy: mayAll})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"accessKeyId": user.ID, "secretAccessKey": user.Secret, "roleArn": role, "externalId": externalID, "stsEndpoint": c.ControlURL(),
	}
}

// merged is the union of changes; the later win.
func merged(all ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, changes := range all {
		for k, v := range changes {
			out[k] = v
		}
	}
	return out
}

// A role is assumed once and signs everything: the WebSocket, whose session
// token is no part of the signature, publishes, and the making of things.
func TestRole(t *testing.T) {
	for _, name := range []string{"WSS", "HTTPS by access"} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			d := newRig().dial(t, awsiot.Options{}, c.with(t, merged(c.protocols()[name], c.assumer(t, "tenant/7"))))
			m := connectortest.Uplink("20635F0108000496", 1)
			if err := d.(sluice.Preparer).Prepare(within(t), m); err != nil {
				t.Fatal(err)
			}
			for lane := range 2 {
				if err := open(t, d, lane).Handle(within(t), m); err != nil {
					t.Fatal(err)
				}
			}
			if _, ok := c.Thing("20635F0108000496"); !ok {
				t.Error("the thing was not made")
			}
			if n := c.Calls("AssumeRole"); n != 1 {
				t.Errorf("the role was assumed %d times", n)
			}
		})
	}
}

// A role that may not be assumed is one event, with what to mend, and a failure
// of the opening; the secrets stay.
func TestRoleRefused(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	changes := merged(c.protocols()["WSS"], c.assumer(t, "tenant/7"), map[string]any{"externalId": "tenant/8"})
	d := r.dial(t, awsiot.Options{}, c.with(t, changes))
	for range 2 {
		_, err := d.Open(within(t), 0, func() {})
		f, ok := errors.AsType[*sluice.Failure](err)
		if !ok || f.Reason != sluice.ReasonNotAuthorized || !strings.Contains(f.Hint, "sts:ExternalId") {
			t.Fatalf("%v", err)
		}
		if strings.Contains(err.Error()+f.Hint, changes["secretAccessKey"].(string)) {
			t.Error("it tells the secret")
		}
	}
	told := r.events.Of(sluice.EventCredentialsFailed)
	if len(told) != 1 || told[0].Level != sluice.LevelError || !strings.Contains(told[0].Detail, "role/iot") {
		t.Errorf("events: %+v", told)
	}
}

// The default chain is used where it is asked for, and only there.
func TestDefaultChain(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	// Nothing of this machine, and no question to an instance.
	none := filepath.Join(t.TempDir(), "none")
	for k, v := range map[string]string{
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY_ID": c.AccessKeyID(), "AWS_SECRET_ACCESS_KEY": c.SecretAccessKey(), "AWS_SESSION_TOKEN": "",
	} {
		t.Setenv(k, v)
	}
	unkeyed := map[string]any{"accessKeyId": nil, "secretAccessKey": nil}
	m := connectortest.Uplink("20635F0108000496", 1)

	d := newRig().dial(t, awsiot.Options{}, c.with(t, unkeyed))
	if err := d.(sluice.Preparer).Prepare(within(t), m); err != nil {
		t.Fatal(err)
	}
	if n := c.Calls("DescribeThing"); n != 0 {
		t.Errorf("not asked for, and %d things were looked at", n)
	}

	asked := merged(c.protocols()["WSS"], unkeyed, map[string]any{"credentials": "default"})
	d = newRig().dial(t, awsiot.Options{}, c.with(t, asked))
	if err := d.(sluice.Preparer).Prepare(within(t), m); err != nil {
		t.Fatal(err)
	}
	if err := open(t, d, 0).Handle(within(t), m); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Thing("20635F0108000496"); !ok {
		t.Error("the thing was not made")
	}

	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	r := newRig()
	d = r.dial(t, awsiot.Options{}, c.with(t, merged(asked, map[string]any{"provisioningTimeout": "0s"})))
	_, err := d.Open(within(t), 0, func() {})
	if f, ok := errors.AsType[*sluice.Failure](err); !ok || f.Reason != sluice.ReasonAuthentication || !strings.Contains(f.Hint, "AWS_ACCESS_KEY_ID") {
		t.Errorf("without any: %v", err)
	}
	if err := d.(sluice.Preparer).Prepare(within(t), connectortest.Uplink("20635F0108000497", 1)); err != nil {
		t.Error(err)
	}
	await(t, "the event", func() bool {
		told := r.events.Of(sluice.EventThingFailed)
		return len(told) == 1 && strings.Contains(told[0].Detail, "No credentials of AWS")
	})
}
