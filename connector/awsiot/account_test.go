package awsiot_test

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// sdk is a client of the emulated account's API.
func (c *cloud) sdk() *iot.Client {
	return iot.New(iot.Options{
		Region: c.Region(), BaseEndpoint: aws.String(c.ControlURL()),
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID(), c.SecretAccessKey(), ""),
	})
}

func revoke(t *testing.T, c *cloud) {
	_, err := c.sdk().UpdateCertificate(within(t), &iot.UpdateCertificateInput{
		CertificateId: aws.String(c.certificateID()), NewStatus: types.CertificateStatusRevoked,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// attached attaches a policy to the certificate as an operator does.
func attached(document string) func(*testing.T, *cloud) {
	return func(t *testing.T, c *cloud) {
		if err := c.CreatePolicy("sluice", document, c.conf["certificateId"].(string)); err != nil {
			t.Fatal(err)
		}
	}
}

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}
