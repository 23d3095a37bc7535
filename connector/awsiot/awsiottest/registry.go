package awsiottest

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"
)

// registry holds things, their types and groups, certificates, policies and
// what is attached to what, in memory.
type registry struct {
	options   Options
	authority *authority // signs device certificates

	// dataEndpoint is what DescribeEndpoint answers. It and deactivated,
	// which is told of a certificate that may no longer connect, are set
	// before anything is served.
	dataEndpoint string
	deactivated  func(certificateID string)
	// policiesChanged is told the policy documents of a certificate; nil is that
	// it may do everything.
	policiesChanged func(certificateID string, documents []string)

	mu           sync.RWMutex
	things       map[string]*thing
	types        map[string]*thingType
	groups       map[string]*thingGroup
	billing      map[string]*billingGroup
	certificates map[string]*certificate
	policies     map[string]*iotPolicy
	tags         map[string]map[string]string // by ARN
}

func newRegistry(o Options, devices *authority) *registry {
	return &registry{
		options: o, authority: devices, deactivated: func(string) {}, policiesChanged: func(string, []string) {},
		things: map[string]*thing{}, types: map[string]*thingType{}, groups: map[string]*thingGroup{}, billing: map[string]*billingGroup{},
		certificates: map[string]*certificate{}, policies: map[string]*iotPolicy{}, tags: map[string]map[string]string{},
	}
}

// newUUID makes a random UUID (version 4).
func newUUID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// seconds is how the API writes a time: seconds since 1970, with a fraction.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
