package awsiottest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// KeyType is the type of a key pair.
type KeyType string

// The key types. RSA keys have 2048 bits and are written as PKCS#1, EC keys
// are on P-256 and written as SEC 1, both as AWS does.
const (
	RSA KeyType = "RSA"
	EC  KeyType = "EC"
)

// validity is how long every certificate is valid. AWS's device certificates
// end with the year 2049.
func validity() (notBefore, notAfter time.Time) {
	return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
}

// authority is a certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := newTemplate(pkix.Name{CommonName: name, Organization: []string{"Sluice"}})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the authority %q: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: certificate, key: key, pem: encodePEM("CERTIFICATE", der)}, nil
}

func newTemplate(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	notBefore, notAfter := validity()
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: notBefore, NotAfter: notAfter}
}

// serverCertificate makes a certificate that is valid for names, which are
// host names and IP addresses.
func (a *authority) serverCertificate(names ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := newTemplate(pkix.Name{CommonName: "Sluice AWS IoT emulator"})
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the server's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// deviceCertificate makes a key pair and a certificate for it.
func (a *authority) deviceCertificate(t KeyType) (c Certificate, publicPEM string, err error) {
	key, block, err := newDeviceKey(t)
	if err != nil {
		return c, "", err
	}
	der, err := a.sign(pkix.Name{CommonName: "AWS IoT Certificate"}, key.Public())
	if err != nil {
		return c, "", err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return c, "", err
	}
	c.ID = fingerprint(der)
	c.CertificatePEM = encodePEM("CERTIFICATE", der)
	c.PrivateKeyPEM = string(pem.EncodeToMemory(block))
	return c, encodePEM("PUBLIC KEY", public), nil
}

// sign makes a device certificate for a public key, in DER form.
func (a *authority) sign(subject pkix.Name, public any) ([]byte, error) {
	template := newTemplate(subject)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("make a device certificate: %w", err)
	}
	return der, nil
}

// signDevice makes a device certificate for somebody else's key, as PEM.
func (a *authority) signDevice(subject pkix.Name, public any) (string, error) {
	der, err := a.sign(subject, public)
	return encodePEM("CERTIFICATE", der), err
}

func newDeviceKey(t KeyType) (crypto.Signer, *pem.Block, error) {
	if t == EC {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		der, err := x509.MarshalECPrivateKey(key)
		return key, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	return key, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, nil
}

// fingerprint is AWS's id of a certificate: the SHA-256 of its DER form.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
