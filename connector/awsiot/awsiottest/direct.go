package awsiottest

import (
	"net/http"
	"net/http/httptest"
)

// ControlTransport makes calls of the registry API without a wire: for tests
// that go by a time of their own, as those of testing/synctest, in which
// nothing may wait for a network.
func (s *Server) ControlTransport() http.RoundTripper { return directly{s.control.Handler} }

type directly struct{ handler http.Handler }

// RoundTrip hands a request to the handler as if it had come in.
func (d directly) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Host == "" {
		in.Host = in.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = in.URL.RequestURI()
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, in)
	return w.Result(), nil
}

// AttachPrincipal attaches a certificate, by its ARN, to a thing.
func (s *Server) AttachPrincipal(thing, principal string) error {
	if err := s.registry.attach(thing, principal, true); err != nil {
		return err
	}
	return nil
}

// CreateThingGroup makes a thing group without a parent.
func (s *Server) CreateThingGroup(name string) error {
	if _, err := s.registry.createGroup(thingGroup{name: name}); err != nil {
		return err
	}
	return nil
}

// CreateBillingGroup makes a billing group.
func (s *Server) CreateBillingGroup(name string) error {
	if _, err := s.registry.createBilling(name, ""); err != nil {
		return err
	}
	return nil
}

// UndeprecateThingType takes the deprecation of a thing type back.
func (s *Server) UndeprecateThingType(name string) error {
	if err := s.registry.deprecateType(name, true); err != nil {
		return err
	}
	return nil
}
