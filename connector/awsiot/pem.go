package awsiot

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// pemBlock is a PEM block.
type pemBlock struct {
	kind string // "CERTIFICATE"
	der  []byte
}

// readPEM reads all blocks of a PEM text. Unlike encoding/pem it takes what
// people paste into JSON: everything on one line, blanks or the two characters
// "\n" instead of line breaks. Errors never hold any of the text.
func readPEM(text string) ([]pemBlock, error) {
	text = strings.NewReplacer(`\r`, "\n", `\n`, "\n").Replace(text)
	var blocks []pemBlock
	for {
		_, rest, found := strings.Cut(text, "-----BEGIN ")
		if !found {
			break
		}
		kind, rest, found := strings.Cut(rest, "-----")
		if !found {
			return nil, errors.New("a BEGIN line does not end in dashes")
		}
		body, rest, found := strings.Cut(rest, "-----END "+kind+"-----")
		if !found {
			return nil, fmt.Errorf("the block %q has no END line", kind)
		}
		text = rest
		if strings.Contains(body, "ENCRYPTED") || strings.HasPrefix(kind, "ENCRYPTED") {
			return nil, errors.New("it is encrypted with a passphrase; give it without one")
		}
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(body), ""))
		if err != nil {
			return nil, fmt.Errorf("the block %q does not hold base64 text", kind)
		}
		blocks = append(blocks, pemBlock{kind: kind, der: der})
	}
	if len(blocks) == 0 {
		return nil, errors.New("no -----BEGIN ...----- was found")
	}
	return blocks, nil
}

// readCertificates reads a chain of certificates, the own one first.
func readCertificates(text string) ([]*x509.Certificate, error) {
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for _, b := range blocks {
		if b.kind != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.der)
		if err != nil {
			return nil, errors.New("it is not a certificate that can be read")
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("it holds a %s, not a certificate", strings.ToLower(blocks[0].kind))
	}
	return chain, nil
}

// readPrivateKey reads a private key: PKCS#1, PKCS#8 or SEC 1 (EC).
func readPrivateKey(text string) (crypto.Signer, error) {
	blocks, err := readPEM(text)
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		if !strings.HasSuffix(b.kind, "PRIVATE KEY") {
			continue // such as EC PARAMETERS
		}
		return parsePrivateKey(b.der)
	}
	return nil, fmt.Errorf("it holds a %s, not a private key", strings.ToLower(blocks[0].kind))
}

// parsePrivateKey tries all forms: the words of the BEGIN line are often wrong.
func parsePrivateKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("it is not a private key that can be read (PKCS#1, PKCS#8 or EC)")
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign", k)
	}
	return s, nil
}

// belongs reports whether a private key is that of a certificate.
func belongs(key crypto.Signer, c *x509.Certificate) bool {
	k, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.Equal(c.PublicKey)
}

// clientCertificate makes what the TLS handshake wants.
func clientCertificate(certificate, privateKey string) (*tls.Certificate, error) {
	chain, err := readCertificates(certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := readPrivateKey(privateKey)
	if err != nil {
		return nil, fmt.Errorf("privateKey: %w", err)
	}
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, x := range chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c, nil
}

// readPool reads the authorities to trust; nil, the system's, for no text.
func readPool(text string) (*x509.CertPool, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	chain, err := readCertificates(text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range chain {
		pool.AddCert(c)
	}
	return pool, nil
}
