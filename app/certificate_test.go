package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pair makes a certificate that ends at a time, and its key, as PEMs.
func pair(t *testing.T, end time.Time) (certificate, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "AWS IoT Certificate"}, NotBefore: end.Add(-365 * 24 * time.Hour), NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", text)
}

// A connection with a certificate that has expired is refused, and nothing of
// it is stored; the same with a certificate that is valid is taken, and its end
// is among the metrics.
func TestExpiredCertificateIsRefused(t *testing.T) {
	i := open(t, t.TempDir())
	i.run()
	post := func(end time.Time) (int, []byte) {
		certificate, key := pair(t, end)
		body, err := json.Marshal(map[string]any{
			"connectorId": "actility-aws-iot", "name": "AWS", "active": false, "configuration": map[string]any{
				"uplinkTopicPattern": "tpx/things/{DevEUI}/uplink", "region": "eu-central-1", "accountPrefix": "a1b2c3d4e5f6g7-ats",
				"createDevices": false, "certificate": certificate, "privateKey": key,
				"certificateId": "arn:aws:iot:eu-central-1:111122223333:cert/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		status, _, answer := i.send("POST", "/connections", string(body))
		return status, answer
	}
	status, answer := post(time.Now().Add(-time.Hour))
	var problem struct {
		Code, Message string
		Fields        []struct{ Path, Message string }
	}
	if err := json.Unmarshal(answer, &problem); err != nil {
		t.Fatal(err)
	}
	if status != http.StatusBadRequest || problem.Code != "com-4000" || len(problem.Fields) != 1 ||
		problem.Fields[0].Path != "configuration.certificate" || !strings.Contains(problem.Fields[0].Message, "expired on") {
		t.Errorf("%d %s", status, answer)
	}
	if strings.Contains(string(answer), "PRIVATE KEY") {
		t.Error("the answer holds the key")
	}
	if _, header, list := i.send("GET", "/connections", ""); string(list) != "[]\n" && string(list) != "[]" || header.Get("X-Total") != "0" {
		t.Errorf("stored: %s", list)
	}
	const metric = "sluice_connection_certificate_expires_seconds"
	metrics := func() string { _, _, text := i.send("GET", "/metrics", ""); return string(text) }
	if strings.Contains(metrics(), metric) {
		t.Error("/metrics tells of a certificate that was refused")
	}
	end := time.Now().Add(100 * 24 * time.Hour)
	if status, answer := post(end); status != http.StatusCreated {
		t.Errorf("valid: %d %s", status, answer)
	}
	row := regexp.MustCompile(`(?m)^` + metric + `\{connection="[^"]+",name="AWS"\} (\S+)$`).FindStringSubmatch(metrics())
	if row == nil {
		t.Fatalf("/metrics lacks %s", metric)
	}
	if at, err := strconv.ParseFloat(row[1], 64); err != nil || int64(at) != end.Unix() {
		t.Errorf("%s, want %d", row[0], end.Unix())
	}
}
