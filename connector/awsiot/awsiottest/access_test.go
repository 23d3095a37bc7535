package awsiottest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"sluice/connector/awsiot/awsiottest"
)

// provider hands the SDK an access key.
func provider(k awsiottest.AccessKey) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(k.ID, k.Secret, k.Token)
}

func with(p aws.CredentialsProvider) func(*iot.Options) {
	return func(o *iot.Options) { o.Credentials = p }
}

func tokens(t *testing.T, s *awsiottest.Server, p aws.CredentialsProvider) *sts.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: tlsConfig(t, s, nil)}
	t.Cleanup(transport.CloseIdleConnections)
	return sts.New(sts.Options{
		Region: s.Region(), BaseEndpoint: aws.String(s.ControlURL()), Credentials: p,
		HTTPClient: &http.Client{Transport: transport}, RetryMaxAttempts: 1,
	})
}

// TestPermissions gives users policies and reads AWS's sentences.
func TestPermissions(t *testing.T) {
	s := start(t, awsiottest.Options{})
	ctx := deadline(t)
	key, err := s.CreateUser("bridge", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["iot:Describe*","iot:CreateThing","iot:ListThings"],"Resource":"*"},
		{"Effect":"Deny","Action":"iot:CreateThing","Resource":"*:thing/forbidden"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	c := sdk(t, s, with(provider(key)))
	const who = "User: arn:aws:iam::123456789012:user/bridge is not authorized to perform: "
	thing := "arn:aws:iot:eu-central-1:123456789012:thing/"
	certificate := newCertificate(t, s, true).ARN
	for what, test := range map[string]struct {
		call func() error
		want string
	}{
		"allowed": {func() error {
			_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a")})
			return err
		}, ""},
		"denied": {func() error {
			_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("forbidden")})
			return err
		}, who + "iot:CreateThing on resource: " + thing + "forbidden with an explicit deny in an identity-based policy"},
		"not allowed": {func() error {
			_, err := c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("a")})
			return err
		}, who + "iot:DeleteThing on resource: " + thing + "a because no identity-based policy allows the iot:DeleteThing action"},
		"on anything": {func() error {
			_, err := c.ListPolicies(ctx, &iot.ListPoliciesInput{})
			return err
		}, who + "iot:ListPolicies on resource: * because no identity-based policy allows the iot:ListPolicies action"},
		"on a target": {func() error {
			_, err := c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("p"), Target: &certificate})
			return err
		}, who + "iot:AttachPolicy on resource: " + certificate + " because no identity-based policy allows the iot:AttachPolicy action"},
		"on a group": {func() error {
			_, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String("a"), ThingGroupName: aws.String("g")})
			return err
		}, who + "iot:AddThingToThingGroup on resource: arn:aws:iot:eu-central-1:123456789012:thinggroup/g because no identity-based policy allows the iot:AddThingToThingGroup action"},
	} {
		err := test.call()
		if test.want == "" && err != nil || test.want != "" && (code(err) != "AccessDeniedException" || message(err) != test.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !s.DeleteAccessKey(key.ID) {
		t.Error("no such key")
	}
	if _, err := c.ListThings(ctx, &iot.ListThingsInput{}); code(err) != "UnrecognizedClientException" {
		t.Errorf("a deleted key: %v", err)
	}
	if _, err := s.CreateUser("x", "{}"); err == nil {
		t.Error("a policy without statements is taken")
	}
}

// TestRoles assumes a role as the SDK does, and lets its credentials expire.
func TestRoles(t *testing.T) {
	shift := time.Duration(0)
	s := start(t, awsiottest.Options{Clock: func() time.Time { return time.Now().Add(shift) }})
	ctx := deadline(t)
	key, err := s.CreateUser("bridge", `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}`)
	if err != nil {
		t.Fatal(err)
	}
	role, err := s.CreateRole(awsiottest.Role{Name: "iot", ExternalID: "sluice-1", Policy: `{"Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`})
	if err != nil {
		t.Fatal(err)
	}
	client := tokens(t, s, provider(key))
	who, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != "arn:aws:iam::123456789012:user/bridge" || *who.Account != "123456789012" || !strings.HasPrefix(*who.UserId, "AIDA") {
		t.Fatalf("%+v %v", who, err)
	}
	wrong := stscreds.NewAssumeRoleProvider(client, role, func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "sluice" })
	_, err = wrong.Retrieve(ctx)
	if want := "User: arn:aws:iam::123456789012:user/bridge is not authorized to perform: sts:AssumeRole on resource: " + role; code(err) != "AccessDenied" || message(err) != want {
		t.Errorf("without the external id: %v", err)
	}
	right := stscreds.NewAssumeRoleProvider(client, role, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName, o.ExternalID = "sluice", aws.String("sluice-1")
	})
	held, err := right.Retrieve(ctx)
	if err != nil || !held.CanExpire || held.SessionToken == "" {
		t.Fatalf("%+v %v", held, err)
	}
	assumed := credentials.StaticCredentialsProvider{Value: held}
	if _, err := sdk(t, s, with(assumed)).CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a")}); err != nil {
		t.Error(err)
	}
	who, err = tokens(t, s, assumed).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != "arn:aws:sts::123456789012:assumed-role/iot/sluice" {
		t.Errorf("%+v %v", who, err)
	}
	stolen := credentials.NewStaticCredentialsProvider(held.AccessKeyID, held.SecretAccessKey, "other")
	if _, err := sdk(t, s, with(stolen)).ListThings(ctx, &iot.ListThingsInput{}); code(err) != "UnrecognizedClientException" {
		t.Errorf("another token: %v", err)
	}
	shift = time.Hour
	if _, err := sdk(t, s, with(assumed)).ListThings(ctx, &iot.ListThingsInput{}); code(err) != "ExpiredTokenException" {
		t.Errorf("after an hour: %v", err)
	}
	if _, err := tokens(t, s, assumed).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); code(err) != "ExpiredToken" {
		t.Errorf("STS after an hour: %v", err)
	}
	if _, err := s.CreateRole(awsiottest.Role{Name: "x", Policy: "x"}); err == nil {
		t.Error("a policy that is no JSON is taken")
	}
}

func TestSTSRefuses(t *testing.T) {
	s := start(t, awsiottest.Options{})
	ctx := deadline(t)
	for what, test := range map[string]struct {
		p    aws.CredentialsProvider
		code string
	}{
		"unknown key":  {credentials.NewStaticCredentialsProvider("AKIAUNKNOWN", "x", ""), "InvalidClientTokenId"},
		"wrong secret": {credentials.NewStaticCredentialsProvider(s.AccessKeyID(), "x", ""), "SignatureDoesNotMatch"},
		"anonymous":    {aws.AnonymousCredentials{}, "MissingAuthenticationToken"},
	} {
		if _, err := tokens(t, s, test.p).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); code(err) != test.code {
			t.Errorf("%s: %v, want %s", what, err, test.code)
		}
	}
	c := tokens(t, s, provider(awsiottest.AccessKey{ID: s.AccessKeyID(), Secret: s.SecretAccessKey()}))
	if _, err := c.GetSessionToken(ctx, &sts.GetSessionTokenInput{}); code(err) != "InvalidAction" {
		t.Errorf("another action: %v", err)
	}
	_, err := c.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::1:role/longer"), RoleSessionName: aws.String("s s")})
	if code(err) != "ValidationError" {
		t.Errorf("a bad name: %v", err)
	}
	s.Fail(awsiottest.Fault{Action: "GetCallerIdentity", Status: 503, Code: "ServiceUnavailable", Times: 1})
	if _, err := c.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); code(err) != "ServiceUnavailable" {
		t.Errorf("a fault: %v", err)
	}
}

// TestRates exhausts rates on a clock that stands still.
func TestRates(t *testing.T) {
	now := time.Now()
	s := start(t, awsiottest.Options{Clock: func() time.Time { return now }, APIRates: map[string]int{"DescribeThing": 2, "CreateThing": -1}})
	c, ctx := sdk(t, s), deadline(t)
	calls := func(n int, call func() error) (throttled int) {
		t.Helper()
		for range n {
			switch err := call(); code(err) {
			case "ThrottlingException":
				var response interface{ HTTPStatusCode() int }
				if !errors.As(err, &response) || response.HTTPStatusCode() != 400 || message(err) != "Rate exceeded" {
					t.Errorf("%v", err)
				}
				throttled++
			case "", "ResourceNotFoundException":
			default:
				t.Error(err)
			}
		}
		return throttled
	}
	list := func() error { _, err := c.ListThings(ctx, &iot.ListThingsInput{}); return err }
	describe := func() error {
		_, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("a")})
		return err
	}
	create := func() error {
		_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a")})
		return err
	}
	if n := calls(12, list); n != 2 {
		t.Errorf("ListThings: %d of 12 throttled, want 2: the rate is 10", n)
	}
	if n := calls(4, describe); n != 2 {
		t.Errorf("DescribeThing: %d of 4 throttled, want 2", n)
	}
	if n := calls(120, create); n != 0 {
		t.Errorf("CreateThing: %d of 120 throttled without a limit", n)
	}
	now = now.Add(time.Second)
	if n := calls(11, list); n != 1 {
		t.Errorf("a second later: %d of 11 throttled, want 1", n)
	}
	all := start(t, awsiottest.Options{APIRates: map[string]int{"*": -1}})
	c = sdk(t, all)
	if n := calls(30, list); n != 0 {
		t.Errorf("no rates: %d throttled", n)
	}
}

// TestDelay makes a call wait until its client has gone, and another one pass
// after a while.
func TestDelay(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := sdk(t, s)
	s.Fail(awsiottest.Fault{Action: "ListThings", Delay: time.Hour, Times: 1})
	s.Fail(awsiottest.Fault{Action: "ListThings", Delay: time.Millisecond, Times: 1})
	ctx, cancel := context.WithCancel(deadline(t))
	done := make(chan error, 1)
	go func() {
		_, err := c.ListThings(ctx, &iot.ListThingsInput{})
		done <- err
	}()
	eventually(t, "the call comes in", func() bool { return s.Calls("ListThings") == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := c.ListThings(deadline(t), &iot.ListThingsInput{}); err != nil {
		t.Error(err)
	}
}
