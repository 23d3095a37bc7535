package awsiottest

import (
	"crypto/x509"
	"errors"
	"time"
)

// Certificate is a device certificate with its private key.
type Certificate struct {
	ID             string // 64 hexadecimal digits
	ARN            string
	CertificatePEM string
	PrivateKeyPEM  string
}

// The states of a certificate.
const (
	active   = "ACTIVE"
	inactive = "INACTIVE"
	revoked  = "REVOKED"
)

type certificate struct {
	id, arn, pem      string
	status            string
	created, modified time.Time
}

// Why a certificate may not connect.
var (
	errUnknownCertificate  = errors.New("the certificate is not registered")
	errInactiveCertificate = errors.New("the certificate is not active")
)

func (r *registry) createCertificate(isActive bool) (c Certificate, publicPEM string, err error) {
	// Outside the lock: an RSA key takes its time.
	c, publicPEM, err = r.authority.deviceCertificate(r.options.KeyType)
	if err != nil {
		return c, "", err
	}
	c.ARN = r.options.arn("cert/" + c.ID)
	now := r.options.Clock()
	stored := &certificate{id: c.ID, arn: c.ARN, pem: c.CertificatePEM, status: inactive, created: now, modified: now}
	if isActive {
		stored.status = active
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.certificates[c.ID] = stored
	return c, publicPEM, nil
}

func (r *registry) describeCertificate(id string) (certificate, *apiError) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.certificates[id]
	if !ok {
		return certificate{}, notFound("The certificate given in the certificate id does not exist. Certificate ID: %s", id)
	}
	return *c, nil
}

func (r *registry) updateCertificate(id, status string) *apiError {
	r.mu.Lock()
	c, ok := r.certificates[id]
	if ok {
		c.status, c.modified = status, r.options.Clock()
	}
	r.mu.Unlock()
	if !ok {
		return notFound("The certificate given in the certificate id does not exist. Certificate ID: %s", id)
	}
	if status != active {
		r.deactivated(id)
	}
	return nil
}

// authorize decides whether a certificate may connect, and returns its id.
func (r *registry) authorize(c *x509.Certificate) (id string, err error) {
	id = fingerprint(c.Raw)
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch stored, ok := r.certificates[id]; {
	case !ok:
		return id, errUnknownCertificate
	case stored.status != active:
		return id, errInactiveCertificate
	}
	return id, nil
}

// CreateKeysAndCertificate makes a key pair and registers a certificate for
// it, as the API call of this name.
func (s *Server) CreateKeysAndCertificate(active bool) (Certificate, error) {
	c, _, err := s.registry.createCertificate(active)
	return c, err
}

// DeactivateCertificate makes a certificate INACTIVE: its clients are
// disconnected at once and refused from now on. It reports whether the
// certificate exists.
func (s *Server) DeactivateCertificate(id string) bool {
	return s.registry.updateCertificate(id, inactive) == nil
}

// ActivateCertificate makes a certificate ACTIVE again. It reports whether the
// certificate exists.
func (s *Server) ActivateCertificate(id string) bool {
	return s.registry.updateCertificate(id, active) == nil
}
