package awsiottest

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
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
	id, arn, pem        string
	status, mode        string
	created, modified   time.Time
	notBefore, notAfter time.Time
	version             int64
	// strict is a certificate that may do only what its policies allow, as on
	// AWS: one that the API made, or that a policy was ever attached to. Those
	// that tests make may do everything until then.
	strict bool
}

// The modes of a certificate: one that was registered without its authority
// asks for the Server Name Indication.
const (
	modeDefault = "DEFAULT"
	modeSNI     = "SNI_ONLY"
)

// Why a certificate may not connect.
var (
	errUnknownCertificate  = errors.New("the certificate is not registered")
	errInactiveCertificate = errors.New("the certificate is not active")
)

func noCertificate(id string) *apiError {
	return notFound("The certificate given in the certificate id does not exist. Certificate ID: %s", id)
}

func (r *registry) createCertificate(isActive, strict bool) (c Certificate, publicPEM string, err error) {
	// Outside the lock: an RSA key takes its time.
	c, publicPEM, err = r.authority.deviceCertificate(r.options.KeyType)
	if err != nil {
		return c, "", err
	}
	c.ARN = r.options.arn("cert/" + c.ID)
	_, err = r.store(c.CertificatePEM, statusOf(isActive), modeDefault, strict)
	return c, publicPEM, err
}

func statusOf(isActive bool) string {
	if isActive {
		return active
	}
	return inactive
}

// store registers a certificate.
func (r *registry) store(text, status, mode string, strict bool) (certificate, error) {
	parsed, err := parseCertificate(text)
	if err != nil {
		return certificate{}, err
	}
	id, now := fingerprint(parsed.Raw), r.options.Clock()
	c := &certificate{
		id: id, arn: r.options.arn("cert/" + id), pem: text, status: status, mode: mode, version: 1, strict: strict,
		created: now, modified: now, notBefore: parsed.NotBefore, notAfter: parsed.NotAfter,
	}
	if strict {
		defer r.refresh(c.arn) // after the lock is free
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.certificates[id]; ok {
		return *old, alreadyExists(id, old.arn, "The certificate is already provisioned or registered")
	}
	r.certificates[id] = c
	return *c, nil
}

func parseCertificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the text is no certificate in PEM form")
	}
	return x509.ParseCertificate(block.Bytes)
}

func (r *registry) describeCertificate(id string) (certificate, *apiError) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.certificates[id]
	if !ok {
		return certificate{}, noCertificate(id)
	}
	return *c, nil
}

func (r *registry) updateCertificate(id, status string) *apiError {
	r.mu.Lock()
	c, ok := r.certificates[id]
	if ok {
		c.status, c.modified = status, r.options.Clock()
		c.version++
	}
	r.mu.Unlock()
	if !ok {
		return noCertificate(id)
	}
	if status != active {
		r.deactivated(id)
	}
	return nil
}

// deleteCertificate removes a certificate that is not active and attached to
// nothing; force leaves policies out of account. The sentence about ACTIVE is
// as users quote it (aws-nuke issue 374); the others are as those who compared
// with AWS have them (moto pull request 1913).
func (r *registry) deleteCertificate(id string, force bool) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.certificates[id]
	switch {
	case !ok:
		return noCertificate(id)
	case c.status == active:
		return certificateState("Certificate must be deactivated (not ACTIVE) before deletion. Id: %s", id)
	}
	for _, t := range r.things {
		if t.principals[c.arn] {
			return deleteConflict("Things must be detached before deletion (arn: %s)", c.arn)
		}
	}
	if len(r.policiesOf(c.arn)) > 0 && !force {
		return deleteConflict("Certificate policies must be detached before deletion (arn: %s)", c.arn)
	}
	for _, p := range r.policies {
		delete(p.targets, c.arn)
	}
	delete(r.certificates, id)
	return nil
}

// listCertificates is by date, then id.
func (r *registry) listCertificates(ascending bool, after string, limit int) (out []certificate, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]certificate, 0, len(r.certificates))
	for _, c := range r.certificates {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b certificate) int {
		if !ascending {
			a, b = b, a
		}
		if n := a.created.Compare(b.created); n != 0 {
			return n
		}
		return strings.Compare(a.id, b.id)
	})
	if at := slices.IndexFunc(all, func(c certificate) bool { return c.id == after }); at >= 0 {
		all = all[at+1:]
	}
	if len(all) > limit {
		return all[:limit], all[limit-1].id
	}
	return all, ""
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
// it, as the API call of this name. It may do everything until a policy is
// attached to it (see [Server.CreatePolicy]); one that the API made may do
// only what its policies allow.
func (s *Server) CreateKeysAndCertificate(active bool) (Certificate, error) {
	c, _, err := s.registry.createCertificate(active, false)
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
