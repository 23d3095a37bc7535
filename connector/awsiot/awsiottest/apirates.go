package awsiottest

import (
	"sync"

	"sluice"
)

// apiRates are how many calls a second of each action an account may make.
// Sources: Service Quotas of iotcore for those that were raised since 2019
// (ListThingPrincipals and the calls of 100 and 350 about things, principals
// and types); AWS IoT limits as of 2019, "Throttling limits", for the others. That as
// many may come at once is inferred.
func apiRates() map[string]int {
	return map[string]int{
		"AddThingToBillingGroup": 60, "AddThingToThingGroup": 100, "AttachPolicy": 15, "AttachPrincipalPolicy": 15, "AttachThingPrincipal": 100,
		"CreateBillingGroup": 25, "CreateCertificateFromCsr": 15, "CreateKeysAndCertificate": 10, "CreatePolicy": 10, "CreateThing": 100,
		"CreateThingGroup": 25, "CreateThingType": 15, "DeleteBillingGroup": 15, "DeleteCertificate": 10, "DeletePolicy": 10, "DeleteThing": 100,
		"DeleteThingGroup": 15, "DeleteThingType": 15, "DeprecateThingType": 15, "DescribeBillingGroup": 100, "DescribeCertificate": 10,
		"DescribeEndpoint": 10, "DescribeThing": 350, "DescribeThingGroup": 100, "DescribeThingType": 100, "DetachPolicy": 15,
		"DetachPrincipalPolicy": 15, "DetachThingPrincipal": 100, "GetPolicy": 10, "ListAttachedPolicies": 15, "ListBillingGroups": 10,
		"ListCertificates": 10, "ListPolicies": 10, "ListPrincipalPolicies": 15, "ListPrincipalThings": 10, "ListTagsForResource": 10,
		"ListTargetsForPolicy": 10, "ListThingGroups": 10, "ListThingGroupsForThing": 10, "ListThingPrincipals": 20, "ListThings": 10,
		"ListThingsInBillingGroup": 25, "ListThingsInThingGroup": 25, "ListThingTypes": 10, "RegisterCertificateWithoutCA": 10,
		"RemoveThingFromBillingGroup": 15, "RemoveThingFromThingGroup": 15, "TagResource": 10, "UntagResource": 10, "UpdateCertificate": 10,
		"UpdateThing": 100,
		// The data plane. Source: Service Quotas of iotcore.
		"GetRetainedMessage": 500, "ListRetainedMessages": 10,
	}
}

// apiThrottle holds a bucket for each action.
type apiThrottle struct {
	clock sluice.Clock
	rates map[string]int

	mu      sync.Mutex
	buckets map[string]*bucket
}

// newAPIThrottle makes the throttle of an account; changes replace AWS's rates.
func newAPIThrottle(clock sluice.Clock, changes map[string]int) *apiThrottle {
	t := &apiThrottle{clock: clock, rates: apiRates(), buckets: map[string]*bucket{}}
	if all, ok := changes["*"]; ok {
		for action := range t.rates {
			t.rates[action] = all
		}
	}
	for action, rate := range changes {
		t.rates[action] = rate
	}
	return t
}

// take counts a call and reports whether it is within the rate.
func (t *apiThrottle) take(action string) bool {
	t.mu.Lock()
	b := t.buckets[action]
	if b == nil {
		b = newBucket(float64(t.rates[action]))
		t.buckets[action] = b
	}
	t.mu.Unlock()
	return b.take(t.clock())
}
