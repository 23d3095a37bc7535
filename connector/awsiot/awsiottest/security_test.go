package awsiottest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"

	"sluice/connector/awsiot/awsiottest"
)

// ownKey is a key that the emulator never sees, as PEM.
func ownKey(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func TestCertificateFromCSR(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	key, private := ownKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "bridge"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	made, err := c.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &csr, SetAsActive: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreatePolicy("all", allowEverything, *made.CertificateArn); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s, awsiottest.Certificate{CertificatePEM: *made.CertificatePem, PrivateKeyPEM: private}, dialer{id: "c"}); err != nil {
		t.Errorf("the certificate does not connect: %v", err)
	}
	for _, bad := range []string{"x", strings.Replace(csr, "REQUEST", "OTHER", 1), *made.CertificatePem} {
		if _, err := c.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &bad}); code(err) != "InvalidRequestException" {
			t.Errorf("%.40s: %v", bad, err)
		}
	}
}

func TestRegisterCertificateWithoutCA(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	key, private := ownKey(t)
	notAfter := time.Now().Add(24 * time.Hour).Truncate(time.Second)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	made, err := c.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: &text, Status: types.CertificateStatusActive})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
	if err != nil || !got.CertificateDescription.Validity.NotAfter.Equal(notAfter) || got.CertificateDescription.CertificateMode != types.CertificateModeSniOnly {
		t.Errorf("%+v %v", got, err)
	}
	if err := s.CreatePolicy("all", allowEverything, *made.CertificateArn); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s, awsiottest.Certificate{CertificatePEM: text, PrivateKeyPEM: private}, dialer{id: "c"}); err != nil {
		t.Errorf("the certificate does not connect: %v", err)
	}
	var exists *types.ResourceAlreadyExistsException
	_, err = c.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: &text})
	if !errors.As(err, &exists) || aws.ToString(exists.ResourceId) != *made.CertificateId || aws.ToString(exists.ResourceArn) != *made.CertificateArn {
		t.Errorf("again: %v", err)
	}
	if _, err := c.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: aws.String("x")}); code(err) != "CertificateValidationException" {
		t.Errorf("no certificate: %v", err)
	}
}

func TestListCertificates(t *testing.T) {
	base, reads := time.Now(), atomic.Int64{}
	s := start(t, awsiottest.Options{Clock: func() time.Time { return base.Add(time.Duration(reads.Add(1)) * time.Millisecond) }})
	c, ctx := sdk(t, s), deadline(t)
	var made []string
	for range 5 {
		made = append(made, newCertificate(t, s, false).ID)
	}
	var got []string
	in := &iot.ListCertificatesInput{PageSize: aws.Int32(2), AscendingOrder: true}
	pages := 0
	for {
		out, err := c.ListCertificates(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, cert := range out.Certificates {
			got = append(got, *cert.CertificateId)
		}
		if out.NextMarker == nil {
			break
		}
		in.Marker = out.NextMarker
	}
	if !cmp.Equal(got, made) || pages != 3 {
		t.Errorf("%d pages: %v, want %v", pages, got, made)
	}
	out, err := c.ListCertificates(ctx, &iot.ListCertificatesInput{PageSize: aws.Int32(1)})
	if err != nil || *out.Certificates[0].CertificateId != made[4] || out.Certificates[0].Status != types.CertificateStatusInactive {
		t.Errorf("%+v %v", out, err)
	}
}

const allowEverything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// TestDeleteCertificate takes everything off first, as AWS wants it.
func TestDeleteCertificate(t *testing.T) {
	s := start(t, awsiottest.Options{APIRates: map[string]int{"*": -1}})
	c, ctx := sdk(t, s), deadline(t)
	cert := newCertificate(t, s, true)
	if err := s.CreatePolicy("p", allowEverything, cert.ARN); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateThing("a", "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("a"), Principal: &cert.ARN}); err != nil {
		t.Fatal(err)
	}
	things, err := c.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{Principal: &cert.ARN})
	if err != nil || !cmp.Equal(things.Things, []string{"a"}) {
		t.Errorf("%+v %v", things, err)
	}
	drop := func(force bool) (string, string) {
		_, err := c.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: &cert.ID, ForceDelete: force})
		return code(err), message(err)
	}
	if code, words := drop(true); code != "CertificateStateException" || words != "Certificate must be deactivated (not ACTIVE) before deletion. Id: "+cert.ID {
		t.Errorf("active: %s %s", code, words)
	}
	s.DeactivateCertificate(cert.ID)
	if code, _ := drop(true); code != "DeleteConflictException" {
		t.Errorf("attached to a thing: %s", code)
	}
	if _, err := c.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: aws.String("a"), Principal: &cert.ARN}); err != nil {
		t.Fatal(err)
	}
	if code, _ := drop(false); code != "DeleteConflictException" {
		t.Errorf("with a policy: %s", code)
	}
	if code, words := drop(true); code != "" {
		t.Errorf("by force: %s %s", code, words)
	}
	if code, _ := drop(true); code != "ResourceNotFoundException" {
		t.Errorf("again: %s", code)
	}
	if _, err := c.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("p")}); err != nil {
		t.Errorf("the policy is still attached: %v", err)
	}
}

func TestPolicies(t *testing.T) {
	s := start(t, awsiottest.Options{APIRates: map[string]int{"*": -1}})
	c, ctx := sdk(t, s), deadline(t)
	cert := newCertificate(t, s, true)
	create := func(name, document string) error {
		_, err := c.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
		return err
	}
	for i := range 11 {
		if err := create(fmt.Sprintf("p%02d", i), allowEverything); err != nil {
			t.Fatal(err)
		}
	}
	for what, test := range map[string]struct{ name, document, code string }{
		"a name twice":  {"p00", allowEverything, "ResourceAlreadyExistsException"},
		"a bad name":    {"p 1", allowEverything, "InvalidRequestException"},
		"no JSON":       {"x", "x", "MalformedPolicyException"},
		"no statements": {"x", "{}", "MalformedPolicyException"},
		"too large":     {"x", strings.Replace(allowEverything, "iot:*", "iot:"+strings.Repeat("x", 2048), 1), "MalformedPolicyException"},
		"much white":    {"white", strings.Replace(allowEverything, ":[", ":"+strings.Repeat(" ", 2048)+"[", 1), ""},
	} {
		if err := create(test.name, test.document); code(err) != test.code {
			t.Errorf("%s: %v, want %q", what, err, test.code)
		}
	}
	got, err := c.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: aws.String("p00")})
	if err != nil || *got.PolicyDocument != allowEverything || *got.DefaultVersionId != "1" || *got.PolicyArn != "arn:aws:iot:eu-central-1:123456789012:policy/p00" {
		t.Errorf("%+v %v", got, err)
	}
	attach := func(name, target string) error {
		_, err := c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &name, Target: &target})
		return err
	}
	for i := range 10 {
		if err := attach(fmt.Sprintf("p%02d", i), cert.ARN); err != nil {
			t.Fatal(err)
		}
	}
	for what, test := range map[string]struct{ name, target, code string }{
		"again":               {"p00", cert.ARN, ""},
		"an eleventh":         {"p10", cert.ARN, "LimitExceededException"},
		"no such policy":      {"none", cert.ARN, "ResourceNotFoundException"},
		"no such certificate": {"p10", cert.ARN[:len(cert.ARN)-64] + strings.Repeat("0", 64), "ResourceNotFoundException"},
		"no ARN":              {"p10", "x", "InvalidRequestException"},
	} {
		if err := attach(test.name, test.target); code(err) != test.code {
			t.Errorf("%s: %v, want %q", what, err, test.code)
		}
	}
	checkPolicyLists(t, c, cert.ARN)
	_, err = c.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("p00")})
	if code(err) != "DeleteConflictException" || message(err) != "The policy cannot be deleted as the policy is attached to one or more principals (name=p00)" {
		t.Errorf("delete: %v", err)
	}
	for range 2 { // the second time changes nothing
		if _, err := c.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String("p00"), Target: &cert.ARN}); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String("p00")}); err != nil {
		t.Error(err)
	}
	if _, err := c.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: aws.String("p00")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("deleted: %v", err)
	}
}

func checkPolicyLists(t *testing.T, c *iot.Client, target string) {
	t.Helper()
	ctx := deadline(t)
	var names []string
	in := &iot.ListAttachedPoliciesInput{Target: &target, PageSize: aws.Int32(4)}
	for p := iot.NewListAttachedPoliciesPaginator(c, in); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, policy := range page.Policies {
			names = append(names, *policy.PolicyName)
		}
	}
	if len(names) != 10 || names[9] != "p09" {
		t.Errorf("attached %v", names)
	}
	all, err := c.ListPolicies(ctx, &iot.ListPoliciesInput{})
	if err != nil || len(all.Policies) != 12 {
		t.Errorf("%+v %v", all, err)
	}
	targets, err := c.ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: aws.String("p03")})
	if err != nil || !cmp.Equal(targets.Targets, []string{target}) {
		t.Errorf("%+v %v", targets, err)
	}
}

// TestPrincipalPolicies are the calls that AttachPolicy replaced.
func TestPrincipalPolicies(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	cert := newCertificate(t, s, true)
	if err := s.CreatePolicy("p", allowEverything); err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 scripts still use it
	if _, err := c.AttachPrincipalPolicy(ctx, &iot.AttachPrincipalPolicyInput{PolicyName: aws.String("p"), Principal: &cert.ARN}); err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 scripts still use it
	list, err := c.ListPrincipalPolicies(ctx, &iot.ListPrincipalPoliciesInput{Principal: &cert.ARN})
	if err != nil || len(list.Policies) != 1 || *list.Policies[0].PolicyName != "p" {
		t.Errorf("%+v %v", list, err)
	}
	//lint:ignore SA1019 scripts still use it
	if _, err := c.DetachPrincipalPolicy(ctx, &iot.DetachPrincipalPolicyInput{PolicyName: aws.String("p"), Principal: &cert.ARN}); err != nil {
		t.Error(err)
	}
	if list, err := c.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: &cert.ARN}); err != nil || len(list.Policies) != 0 {
		t.Errorf("%+v %v", list, err)
	}
}

// TestGroupPolicies are inherited by the groups below.
func TestGroupPolicies(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := sdk(t, s), deadline(t)
	top, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("top")})
	if err != nil {
		t.Fatal(err)
	}
	below, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("below"), ParentGroupName: aws.String("top")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreatePolicy("p", allowEverything, *top.ThingGroupArn); err != nil {
		t.Fatal(err)
	}
	for recursive, want := range map[bool]int{false: 0, true: 1} {
		list, err := c.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: below.ThingGroupArn, Recursive: recursive})
		if err != nil || len(list.Policies) != want {
			t.Errorf("recursive %v: %+v %v", recursive, list, err)
		}
	}
	if err := s.CreatePolicy("q", allowEverything, "arn:aws:iot:eu-central-1:123456789012:thinggroup/none"); err == nil {
		t.Error("no such group is taken")
	}
}

// TestAttachedPoliciesOverMQTT attaches policies by the API: to the
// certificate, and to a group that its thing is in.
func TestAttachedPoliciesOverMQTT(t *testing.T) {
	s := start(t, awsiottest.Options{APIRates: map[string]int{"*": -1}})
	c, ctx := sdk(t, s), deadline(t)
	made, err := c.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	if err != nil {
		t.Fatal(err)
	}
	connects := func() bool {
		t.Helper()
		client, err := dial(t, s, awsiottest.Certificate{CertificatePEM: *made.CertificatePem, PrivateKeyPEM: *made.KeyPair.PrivateKey}, dialer{id: "c"})
		if err == nil {
			_ = client.Client.Disconnect(&paho.Disconnect{})
			<-client.Done()
		}
		return err == nil
	}
	if connects() {
		t.Error("one without a policy connects")
	}
	if err := s.CreatePolicy("all", allowEverything, *made.CertificateArn); err != nil {
		t.Fatal(err)
	}
	if !connects() {
		t.Error("one with a policy does not connect")
	}
	if _, err := c.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String("all"), Target: made.CertificateArn}); err != nil {
		t.Fatal(err)
	}
	if connects() {
		t.Error("the policy is detached, and it connects")
	}
	group, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("g")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateThing("a", "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("a"), Principal: made.CertificateArn}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String("all"), Target: group.ThingGroupArn}); err != nil {
		t.Fatal(err)
	}
	if connects() {
		t.Error("its thing is not in the group yet, and it connects")
	}
	if _, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String("a"), ThingGroupName: aws.String("g")}); err != nil {
		t.Fatal(err)
	}
	if !connects() {
		t.Error("its thing is in the group, and it does not connect")
	}
	if _, err := c.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: aws.String("a"), Principal: made.CertificateArn}); err != nil {
		t.Fatal(err)
	}
	if connects() {
		t.Error("it is not attached to its thing any more, and it connects")
	}
}
