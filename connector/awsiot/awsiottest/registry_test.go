package awsiottest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/google/go-cmp/cmp"

	"sluice/connector/awsiot/awsiottest"
)

// sdk is a client of the AWS SDK.
func sdk(t *testing.T, s *awsiottest.Server, change ...func(*iot.Options)) *iot.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: tlsConfig(t, s, nil)}
	t.Cleanup(transport.CloseIdleConnections)
	o := iot.Options{
		Region:           s.Region(),
		BaseEndpoint:     aws.String(s.ControlURL()),
		Credentials:      credentials.NewStaticCredentialsProvider(s.AccessKeyID(), s.SecretAccessKey(), ""),
		HTTPClient:       &http.Client{Transport: transport},
		RetryMaxAttempts: 1,
	}
	for _, c := range change {
		c(&o)
	}
	return iot.New(o)
}

// apiError is the SDK's error of an answer of the API.
type apiError interface {
	error
	ErrorCode() string
	ErrorMessage() string
}

// code is the API's error code of err, "" for nil.
func code(err error) string {
	if e, ok := errors.AsType[apiError](err); ok {
		return e.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func message(err error) string {
	if e, ok := errors.AsType[apiError](err); ok {
		return e.ErrorMessage()
	}
	return fmt.Sprint(err)
}

func TestThings(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	name := aws.String("0018B20000000001")
	create := &iot.CreateThingInput{
		ThingName: name, ThingTypeName: aws.String("LoRaWAN"),
		AttributePayload: &types.AttributePayload{Attributes: map[string]string{"model": "x/1"}},
	}
	_, err := c.CreateThing(ctx, create)
	if code(err) != "ResourceNotFoundException" {
		t.Errorf("no such type: %v", err)
	}
	typ, err := c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: create.ThingTypeName})
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:iot:eu-central-1:123456789012:thingtype/LoRaWAN"; *typ.ThingTypeArn != want {
		t.Errorf("ARN %s, want %s", *typ.ThingTypeArn, want)
	}
	made, err := c.CreateThing(ctx, create)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.CreateThing(ctx, create)
	if err != nil || *again.ThingId != *made.ThingId {
		t.Errorf("the same again: %v", err)
	}
	got, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: name})
	if err != nil {
		t.Fatal(err)
	}
	if *got.ThingArn != "arn:aws:iot:eu-central-1:123456789012:thing/0018B20000000001" || *got.DefaultClientId != *name ||
		*got.ThingTypeName != "LoRaWAN" || got.Version != 1 || got.Attributes["model"] != "x/1" || *got.ThingId != *made.ThingId {
		t.Errorf("described %+v", got)
	}
	if _, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("none")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("no such thing: %v", err)
	}
	if thing, ok := s.Thing(*name); !ok || thing.TypeName != "LoRaWAN" || len(s.Things()) != 1 {
		t.Errorf("things %+v", s.Things())
	}
}

func TestConflict(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	for _, name := range []string{"a", "b"} {
		if err := s.CreateThingType(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.CreateThing("x", "a", nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("x"), ThingTypeName: aws.String("b")})
	var exists *types.ResourceAlreadyExistsException
	if !errors.As(err, &exists) || aws.ToString(exists.ResourceId) != "x" || !strings.HasSuffix(aws.ToString(exists.ResourceArn), ":thing/x") {
		t.Errorf("another type: %v", err)
	}
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{
		ThingName: aws.String("x"), ThingTypeName: aws.String("a"),
		AttributePayload: &types.AttributePayload{Attributes: map[string]string{"a": "b"}},
	})
	if !errors.As(err, &exists) || message(err) != "Thing x already exists in account with different attributes" {
		t.Errorf("other attributes: %v", err)
	}
	_, err = c.CreateThingType(ctx, &iot.CreateThingTypeInput{
		ThingTypeName: aws.String("a"), ThingTypeProperties: &types.ThingTypeProperties{ThingTypeDescription: aws.String("other")},
	})
	if !errors.As(err, &exists) {
		t.Errorf("another thing type: %v", err)
	}
	s.DeprecateThingType("b")
	if _, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("y"), ThingTypeName: aws.String("b")}); code(err) != "InvalidRequestException" {
		t.Errorf("a deprecated type: %v", err)
	}
}

func TestPrincipals(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	name := aws.String("a:b")
	if _, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: name}); err != nil {
		t.Fatal(err)
	}
	principal := aws.String(newCertificate(t, s, true).ARN)
	for range 2 { // the second time changes nothing
		if _, err := c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: name, Principal: principal}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.ListThingPrincipals(ctx, &iot.ListThingPrincipalsInput{ThingName: name})
	if err != nil || !cmp.Equal(list.Principals, []string{*principal}) {
		t.Errorf("principals %v %v", list, err)
	}
	if thing, _ := s.Thing("a:b"); !cmp.Equal(thing.Principals, []string{*principal}) {
		t.Errorf("thing %+v", thing)
	}
	for what, test := range map[string]struct{ thing, principal, code string }{
		"no such thing":       {"none", *principal, "ResourceNotFoundException"},
		"no such certificate": {"a:b", (*principal)[:len(*principal)-64] + strings.Repeat("0", 64), "ResourceNotFoundException"},
		"no ARN":              {"a:b", "x", "InvalidRequestException"},
	} {
		_, err := c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &test.thing, Principal: &test.principal})
		if code(err) != test.code {
			t.Errorf("%s: %v, want %s", what, err, test.code)
		}
	}
	_, err = c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: name})
	if message(err) != "Cannot delete. Thing a:b is still attached to one or more principals" {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: name, Principal: principal}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: name, ExpectedVersion: aws.Int64(7)}); code(err) != "VersionConflictException" {
		t.Errorf("another version: %v", err)
	}
	for range 2 { // the second time is a success, too
		if _, err := c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: name}); err != nil {
			t.Error(err)
		}
	}
}

func TestListThings(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	if err := s.CreateThingType("odd"); err != nil {
		t.Fatal(err)
	}
	for i := range 25 {
		typ := ""
		if i%2 == 1 {
			typ = "odd"
		}
		if _, err := s.CreateThing(fmt.Sprintf("thing-%02d", i), typ, map[string]string{"n": fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	list := func(in iot.ListThingsInput) (names []string, pages int) {
		t.Helper()
		p := iot.NewListThingsPaginator(c, &in)
		for ; p.HasMorePages(); pages++ {
			page, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, thing := range page.Things {
				names = append(names, *thing.ThingName)
			}
		}
		return names, pages
	}
	if names, pages := list(iot.ListThingsInput{MaxResults: aws.Int32(5)}); len(names) != 25 || pages != 5 || names[24] != "thing-24" {
		t.Errorf("%d pages, %v", pages, names)
	}
	if names, _ := list(iot.ListThingsInput{ThingTypeName: aws.String("odd"), MaxResults: aws.Int32(7)}); len(names) != 12 {
		t.Errorf("by type: %v", names)
	}
	if names, _ := list(iot.ListThingsInput{AttributeName: aws.String("n"), AttributeValue: aws.String("7")}); !cmp.Equal(names, []string{"thing-07"}) {
		t.Errorf("by attribute: %v", names)
	}
	if names, _ := list(iot.ListThingsInput{AttributeName: aws.String("n"), AttributeValue: aws.String("2"), UsePrefixAttributeValue: true}); len(names) != 6 {
		t.Errorf("by prefix: %v", names)
	}
	if _, err := c.ListThings(ctx, &iot.ListThingsInput{MaxResults: aws.Int32(251)}); code(err) != "InvalidRequestException" {
		t.Errorf("251 at once: %v", err)
	}
	kinds, err := c.ListThingTypes(ctx, &iot.ListThingTypesInput{})
	if err != nil || len(kinds.ThingTypes) != 1 || *kinds.ThingTypes[0].ThingTypeName != "odd" {
		t.Errorf("types %+v %v", kinds, err)
	}
	kind, err := c.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: aws.String("odd")})
	if err != nil || kind.ThingTypeMetadata.Deprecated || kind.ThingTypeMetadata.CreationDate == nil {
		t.Errorf("type %+v %v", kind, err)
	}
	if !cmp.Equal(s.ThingTypes(), []string{"odd"}) || !s.DeleteThing("thing-00") || s.DeleteThing("thing-00") {
		t.Errorf("types %v", s.ThingTypes())
	}
}

func TestNames(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	attributes := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("a", i)] = ""
		}
		return m
	}
	if err := s.CreateThingType("typed"); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		name, typ  string
		attributes map[string]string
		code       string
	}{
		"good":                  {"aZ0:_-", "", nil, ""},
		"space":                 {"a b", "", nil, "InvalidRequestException"},
		"slash":                 {"a/b", "", nil, "InvalidRequestException"},
		"128 characters":        {strings.Repeat("a", 128), "", nil, ""},
		"129 characters":        {strings.Repeat("a", 129), "", nil, "InvalidRequestException"},
		"type":                  {"a", "ä", nil, "InvalidRequestException"},
		"attribute with spaces": {"a", "", map[string]string{"name": "my device"}, "InvalidRequestException"},
		"attribute's name":      {"a", "", map[string]string{"my name": "x"}, "InvalidRequestException"},
		"long attribute":        {"a", "", map[string]string{"name": strings.Repeat("x", 801)}, "InvalidRequestException"},
		"3 attributes":          {"three", "", attributes(3), ""},
		"4 attributes":          {"four", "", attributes(4), "InvalidRequestException"},
		"50 attributes, typed":  {"fifty", "typed", attributes(50), ""},
		"51 attributes, typed":  {"more", "typed", attributes(51), "InvalidRequestException"},
	} {
		in := &iot.CreateThingInput{ThingName: &test.name, AttributePayload: &types.AttributePayload{Attributes: test.attributes}}
		if test.typ != "" {
			in.ThingTypeName = &test.typ
		}
		if _, err := c.CreateThing(ctx, in); code(err) != test.code {
			t.Errorf("%s: %v, want %q", what, err, test.code)
		}
	}
	_, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("a b")})
	if want := "1 validation error detected: Value 'a b' at 'thingName' failed to satisfy constraint: " +
		"Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+"; message(err) != want {
		t.Errorf("message %q", message(err))
	}
}

func TestKeysAndCertificate(t *testing.T) {
	s := start(t, awsiottest.Options{KeyType: awsiottest.RSA})
	c, ctx := sdk(t, s), deadline(t)
	made, err := c.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: false})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair([]byte(*made.CertificatePem), []byte(*made.KeyPair.PrivateKey)); err != nil {
		t.Error(err)
	}
	key, _ := pem.Decode([]byte(*made.KeyPair.PrivateKey))
	if key.Type != "RSA PRIVATE KEY" {
		t.Errorf("a private key of type %q", key.Type)
	}
	cert, _ := pem.Decode([]byte(*made.CertificatePem))
	if sum := sha256.Sum256(cert.Bytes); hex.EncodeToString(sum[:]) != *made.CertificateId || !strings.HasSuffix(*made.CertificateArn, ":cert/"+*made.CertificateId) {
		t.Errorf("id %s, ARN %s", *made.CertificateId, *made.CertificateArn)
	}
	public, _ := pem.Decode([]byte(*made.KeyPair.PublicKey))
	if _, err := x509.ParsePKIXPublicKey(public.Bytes); err != nil {
		t.Error(err)
	}
	status := func() types.CertificateStatus {
		d, err := c.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
		if err != nil {
			t.Fatal(err)
		}
		return d.CertificateDescription.Status
	}
	if status() != types.CertificateStatusInactive {
		t.Errorf("status %s", status())
	}
	device := awsiottest.Certificate{CertificatePEM: *made.CertificatePem, PrivateKeyPEM: *made.KeyPair.PrivateKey}
	if _, err := dial(t, s, device, dialer{id: "c"}); err == nil {
		t.Error("an inactive certificate connects")
	}
	if _, err := c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: made.CertificateId, NewStatus: types.CertificateStatusActive}); err != nil {
		t.Fatal(err)
	}
	if err := s.CreatePolicy("all", allowEverything, *made.CertificateArn); err != nil {
		t.Fatal(err)
	}
	connected, err := dial(t, s, device, dialer{id: "c"})
	if err != nil || status() != types.CertificateStatusActive {
		t.Fatalf("active: %v, status %s", err, status())
	}
	if _, err := c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: made.CertificateId, NewStatus: types.CertificateStatusRevoked}); err != nil {
		t.Fatal(err)
	}
	if got := connected.ended(t); got != 0x87 {
		t.Errorf("revoked: DISCONNECT 0x%02X", got)
	}
	if _, err := c.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: aws.String(strings.Repeat("0", 64))}); code(err) != "ResourceNotFoundException" {
		t.Errorf("no such certificate: %v", err)
	}
	endpoint, err := c.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Data-ATS")})
	if err != nil || *endpoint.EndpointAddress != s.MQTTAddr() {
		t.Errorf("endpoint %v %v", endpoint, err)
	}
}

func TestSignature(t *testing.T) {
	now := time.Now()
	s := start(t, awsiottest.Options{Clock: func() time.Time { return now }})
	ctx := deadline(t)
	for what, test := range map[string]struct {
		change func(*iot.Options)
		code   string
		words  string
	}{
		"wrong secret": {func(o *iot.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider(s.AccessKeyID(), "wrong", "")
		}, "InvalidSignatureException", "The request signature we calculated does not match"},
		"unknown key": {func(o *iot.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider("AKIAUNKNOWN", s.SecretAccessKey(), "")
		}, "UnrecognizedClientException", "The security token included in the request is invalid"},
		"a session token": {func(o *iot.Options) {
			o.Credentials = credentials.NewStaticCredentialsProvider(s.AccessKeyID(), s.SecretAccessKey(), "token")
		}, "UnrecognizedClientException", ""},
		"another region": {func(o *iot.Options) { o.Region = "us-east-1" }, "InvalidSignatureException", "valid Region, not 'us-east-1'"},
		"anonymous":      {func(o *iot.Options) { o.Credentials = aws.AnonymousCredentials{} }, "MissingAuthenticationTokenException", ""},
	} {
		_, err := sdk(t, s, test.change).ListThings(ctx, &iot.ListThingsInput{})
		if code(err) != test.code || !strings.Contains(message(err), test.words) {
			t.Errorf("%s: %v, want %s", what, err, test.code)
		}
	}
	if n := s.Calls("ListThings"); n != 0 {
		t.Errorf("%d calls counted", n)
	}
}

func TestClockSkew(t *testing.T) {
	var shift time.Duration
	s := start(t, awsiottest.Options{Clock: func() time.Time { return time.Now().Add(shift) }})
	for _, test := range []struct {
		shift time.Duration
		words string
	}{
		{4 * time.Minute, ""},
		{-4 * time.Minute, ""},
		{6 * time.Minute, "Signature expired"},
		{-6 * time.Minute, "Signature not yet current"},
	} {
		shift = test.shift
		_, err := sdk(t, s).ListThings(deadline(t), &iot.ListThingsInput{})
		if test.words == "" && err != nil || test.words != "" && (code(err) != "InvalidSignatureException" || !strings.Contains(message(err), test.words)) {
			t.Errorf("%v: %v", test.shift, err)
		}
	}
	// The SDK learns the time from the answer and tries again.
	c := sdk(t, s, func(o *iot.Options) { o.RetryMaxAttempts = 3 })
	if _, err := c.ListThings(deadline(t), &iot.ListThingsInput{}); err != nil {
		t.Errorf("with retries: %v", err)
	}
}

// TestTampering changes a signed request on its way.
func TestTampering(t *testing.T) {
	s := start(t, awsiottest.Options{})
	send := func(change func(*http.Request)) (int, string) {
		t.Helper()
		body := []byte(`{"thingTypeName":"x"}`)
		r, err := http.NewRequestWithContext(deadline(t), http.MethodPost, s.ControlURL()+"/things/a%3Ab?z=%2F&a=1&a=0&b", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		key := aws.Credentials{AccessKeyID: s.AccessKeyID(), SecretAccessKey: s.SecretAccessKey()}
		r.Header.Set("X-Amz-Meta", "  two   words ")
		if err := signer.NewSigner().SignHTTP(context.Background(), key, r, hex.EncodeToString(sum[:]), "iot", s.Region(), time.Now()); err != nil {
			t.Fatal(err)
		}
		change(r)
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer.StatusCode, answer.Header.Get("X-Amzn-Errortype")
	}
	if status, kind := send(func(*http.Request) {}); status != 404 || kind != "ResourceNotFoundException" { // the thing type
		t.Errorf("untouched: %d %s", status, kind)
	}
	for what, change := range map[string]func(*http.Request){
		"body":   func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"thingTypeName":"y"}`)) },
		"path":   func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/things/c", "" },
		"method": func(r *http.Request) { r.Method = http.MethodDelete },
		"query":  func(r *http.Request) { r.URL.RawQuery = "a=1&a=2" },
		"header": func(r *http.Request) { r.Header.Set("X-Amz-Meta", "other") },
		"more":   func(r *http.Request) { r.Header.Set("X-Amz-More", "unsigned") },
		"date": func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().Add(time.Second).UTC().Format("20060102T150405Z"))
		},
		"host": func(r *http.Request) { r.Host = "localhost" },
		"hash": func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") },
	} {
		if status, kind := send(change); status != 403 || kind != "InvalidSignatureException" {
			t.Errorf("%s: %d %s", what, status, kind)
		}
	}
	for what, header := range map[string]string{
		"no algorithm": "Basic eDp5", "no parameters": "AWS4-HMAC-SHA256", "half a credential": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=x",
	} {
		if status, kind := send(func(r *http.Request) { r.Header.Set("Authorization", header) }); status != 403 || kind != "IncompleteSignatureException" {
			t.Errorf("%s: %d %s", what, status, kind)
		}
	}
}

func TestFaults(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	s.ThrottleRegistry(2)
	if _, err := c.ListThings(ctx, &iot.ListThingsInput{}); code(err) != "ThrottlingException" {
		t.Errorf("throttled: %v", err)
	}
	s.ThrottleRegistry(1) // two are left
	if _, err := sdk(t, s, func(o *iot.Options) { o.RetryMaxAttempts = 3 }).ListThings(ctx, &iot.ListThingsInput{}); err != nil {
		t.Errorf("the SDK does not retry: %v", err)
	}
	if n := s.Calls("ListThings"); n != 4 {
		t.Errorf("%d calls, want 4", n)
	}
	s.Deny("CreateThing")
	_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a")})
	if want := "User: arn:aws:iam::123456789012:user/emulator is not authorized to perform: iot:CreateThing on resource: " +
		"arn:aws:iot:eu-central-1:123456789012:thing/a because no identity-based policy allows the iot:CreateThing action"; code(err) != "AccessDeniedException" || message(err) != want {
		t.Errorf("denied: %v", err)
	}
	s.Allow("CreateThing")
	s.Fail(awsiottest.Fault{Action: "DescribeThing", Status: 503, Code: "ServiceUnavailableException", Message: "later"})
	for range 3 {
		if _, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("a")}); code(err) != "ServiceUnavailableException" {
			t.Errorf("unavailable: %v", err)
		}
	}
	if _, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("a")}); err != nil {
		t.Error(err)
	}
	s.ClearFaults()
	if _, err := c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("a")}); err != nil {
		t.Error(err)
	}
}

func TestControlTLS(t *testing.T) {
	s := start(t, awsiottest.Options{ControlTLS: true, Region: "cn-north-1", AccountID: "000000000001"})
	if !strings.HasPrefix(s.ControlURL(), "https://") {
		t.Fatalf("URL %s", s.ControlURL())
	}
	made, err := sdk(t, s).CreateThing(deadline(t), &iot.CreateThingInput{ThingName: aws.String("a")})
	if err != nil || *made.ThingArn != "arn:aws-cn:iot:cn-north-1:000000000001:thing/a" {
		t.Errorf("%+v %v", made, err)
	}
}

func TestConfiguration(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := s.Configuration()
	if c != s.Configuration() {
		t.Error("another configuration at the second call")
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]string
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		if value == "" {
			t.Errorf("%s is empty", name)
		}
	}
	if len(fields) != 17 || fields["uplinkTopicPattern"] != "tpx/things/{DevEUI}/uplink" {
		t.Errorf("configuration %v", fields)
	}
	device := awsiottest.Certificate{CertificatePEM: c.Certificate, PrivateKeyPEM: c.PrivateKey}
	if _, err := dial(t, s, device, dialer{id: "c"}); err != nil {
		t.Error(err)
	}
	if !cmp.Equal(s.ThingTypes(), []string{c.DeviceType}) {
		t.Errorf("thing types %v", s.ThingTypes())
	}
}
