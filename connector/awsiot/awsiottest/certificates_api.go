package awsiottest

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
)

// The operations about certificates.

func createKeysAndCertificate(r *registry, c *call) (any, *apiError) {
	created, public, err := r.createCertificate(c.query.Get("setAsActive") == "true", true)
	if err != nil {
		return nil, internalFailure(err)
	}
	return map[string]any{
		"certificateArn": created.ARN, "certificateId": created.ID, "certificatePem": created.CertificatePEM,
		"keyPair": map[string]string{"PublicKey": public, "PrivateKey": created.PrivateKeyPEM},
	}, nil
}

// createCertificateFromCsr signs a key that AWS never sees. The sentence of
// the error is inferred.
func createCertificateFromCsr(r *registry, c *call) (any, *apiError) {
	var in struct {
		CSR string `json:"certificateSigningRequest"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(in.CSR))
	if block == nil {
		return nil, invalidRequest("Invalid CSR")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return nil, invalidRequest("Invalid CSR")
	}
	text, err := r.authority.signDevice(csr.Subject, csr.PublicKey)
	if err != nil {
		return nil, internalFailure(err)
	}
	stored, err := r.store(text, statusOf(c.query.Get("setAsActive") == "true"), modeDefault, true)
	if err != nil {
		return nil, storeError(err)
	}
	return map[string]string{"certificateArn": stored.arn, "certificateId": stored.id, "certificatePem": stored.pem}, nil
}

func registerCertificateWithoutCA(r *registry, c *call) (any, *apiError) {
	in := struct {
		PEM    string `json:"certificatePem"`
		Status string `json:"status"`
	}{Status: inactive}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var check checker
	check.oneOf("status", in.Status, active, inactive)
	if err := check.err(); err != nil {
		return nil, err
	}
	stored, err := r.store(in.PEM, in.Status, modeSNI, true)
	if err != nil {
		return nil, storeError(err)
	}
	return map[string]string{"certificateArn": stored.arn, "certificateId": stored.id}, nil
}

func storeError(err error) *apiError {
	var bad *apiError
	if errors.As(err, &bad) {
		return bad
	}
	return newError(http.StatusBadRequest, "CertificateValidationException", "Certificate could not be validated: %v", err)
}

func (c *call) certificateID() *apiError {
	var check checker
	check.certificateID(c.name)
	return check.err()
}

func describeCertificate(r *registry, c *call) (any, *apiError) {
	if err := c.certificateID(); err != nil {
		return nil, err
	}
	found, err := r.describeCertificate(c.name)
	if err != nil {
		return nil, err
	}
	return map[string]any{"certificateDescription": map[string]any{
		"certificateArn": found.arn, "certificateId": found.id, "certificatePem": found.pem, "status": found.status,
		"ownedBy": r.options.AccountID, "customerVersion": found.version, "certificateMode": found.mode,
		"creationDate": seconds(found.created), "lastModifiedDate": seconds(found.modified),
		"validity": map[string]any{"notBefore": seconds(found.notBefore), "notAfter": seconds(found.notAfter)},
	}}, nil
}

func listCertificates(r *registry, c *call) (any, *apiError) {
	after, limit, err := c.markedPage()
	if err != nil {
		return nil, err
	}
	found, next := r.listCertificates(c.query.Get("isAscendingOrder") == "true", after, limit)
	out := []map[string]any{}
	for _, f := range found {
		out = append(out, map[string]any{
			"certificateArn": f.arn, "certificateId": f.id, "status": f.status, "certificateMode": f.mode, "creationDate": seconds(f.created),
		})
	}
	return map[string]any{"certificates": out, "nextMarker": token(next)}, nil
}

func updateCertificate(r *registry, c *call) (any, *apiError) {
	var check checker
	check.certificateID(c.name)
	check.oneOf("newStatus", c.query.Get("newStatus"), active, inactive, revoked)
	if err := check.err(); err != nil {
		return nil, err
	}
	return struct{}{}, r.updateCertificate(c.name, c.query.Get("newStatus"))
}

func deleteCertificate(r *registry, c *call) (any, *apiError) {
	if err := c.certificateID(); err != nil {
		return nil, err
	}
	return struct{}{}, r.deleteCertificate(c.name, c.query.Get("forceDelete") == "true")
}
