// Package iam is the part of AWS Identity and Access Management that the AWS
// IoT emulator needs: users with access keys, roles that may be assumed with
// an external id, and temporary credentials. What their policies allow is
// decided by package policy.
//
// Sources: IAM User Guide, "IAM JSON policy elements", "Troubleshoot access
// denied error messages" and "Unique identifiers"; AWS STS API Reference,
// AssumeRole. Of condition keys and policy variables it knows aws:username and
// aws:userid. It does not do permissions boundaries, session policies, tags,
// groups or federation.
package iam

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"sync"
	"time"

	"sluice"
	"sluice/connector/awsiot/awsiottest/policy"
)

// Key is an access key. Token and Expires are those of a temporary one.
type Key struct {
	ID, Secret string
	Token      string    // "" for a key that lasts
	Expires    time.Time // zero for a key that lasts
}

// Identity is who an access key belongs to.
type Identity struct {
	Key
	// ARN is that of the user, or of the session of an assumed role.
	ARN string
	// UserID is what GetCallerIdentity answers for it.
	UserID string

	documents []*policy.Document
	userName  string // "" for a role
}

// Expired reports whether a temporary key is no longer good.
func (i Identity) Expired(now time.Time) bool {
	return !i.Expires.IsZero() && !now.Before(i.Expires)
}

// Allows reports whether the policy of the identity allows an action, such as
// "iot:CreateThing", on a resource.
func (i Identity) Allows(action, resource string) bool {
	return i.decide(action, resource) == policy.Allowed
}

func (i Identity) decide(action, resource string) policy.Decision {
	values := policy.Values{keyUserID: {i.UserID}}
	if i.userName != "" {
		values[keyUserName] = []string{i.userName}
	}
	return policy.Evaluate(i.documents, policy.Request{Action: action, Resource: resource, Values: values})
}

// Denied is the sentence about an action that is not allowed.
func (i Identity) Denied(action, resource string) string {
	return denied(i.ARN, action, resource, i.decide(action, resource) == policy.Denied)
}

// Trust says who may assume a role.
type Trust struct {
	// Principals are ARNs with wildcards; none is everybody who is allowed
	// sts:AssumeRole on the role.
	Principals []string
	// ExternalID must come with the request; "" asks for none.
	ExternalID string
	// MaxSession is how long a session lasts at most; 0 is AWS's hour.
	MaxSession time.Duration
}

type role struct {
	name, arn, id string
	policy        *policy.Document
	trust         Trust
}

// Account holds users, roles and keys. Its methods are safe for use by
// several goroutines.
type Account struct {
	partition, id string
	clock         sluice.Clock

	mu         sync.Mutex
	identities map[string]Identity // by access key id
	roles      map[string]*role    // by ARN
	users      map[string]*user    // by name: those that the API made
}

// NewAccount makes an account without users. The partition is "aws",
// "aws-cn" or "aws-us-gov".
func NewAccount(partition, id string, clock sluice.Clock) *Account {
	return &Account{partition: partition, id: id, clock: clock, identities: map[string]Identity{}, roles: map[string]*role{}, users: map[string]*user{}}
}

// ID is the twelve digits of the account.
func (a *Account) ID() string { return a.id }

func (a *Account) arn(service, resource string) string {
	return "arn:" + a.partition + ":" + service + "::" + a.id + ":" + resource
}

// AddUser makes a user with an access key.
func (a *Account) AddUser(name string, p *policy.Document) Key {
	key := Key{ID: newID("AKIA"), Secret: newSecret()}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identities[key.ID] = Identity{Key: key, ARN: a.arn("iam", "user/"+name), UserID: newID("AIDA"), userName: name, documents: []*policy.Document{p}}
	return key
}

// RemoveKey makes an access key unknown and reports whether it was known.
func (a *Account) RemoveKey(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.identities[id]
	delete(a.identities, id)
	return ok
}

// AddRole makes a role and returns its ARN.
func (a *Account) AddRole(name string, p *policy.Document, t Trust) string {
	r := &role{name: name, arn: a.arn("iam", "role/"+name), id: newID("AROA"), policy: p, trust: t}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roles[r.arn] = r
	return r.arn
}

// Lookup finds the owner of an access key. Whether it has expired is for the
// caller to ask.
func (a *Account) Lookup(accessKeyID string) (Identity, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, ok := a.identities[accessKeyID]
	return i, ok
}

// newID makes an id of twenty characters, as AWS's.
func newID(prefix string) string {
	raw := make([]byte, 10)
	_, _ = rand.Read(raw) // never fails
	return prefix + base32.StdEncoding.EncodeToString(raw)
}

func newSecret() string {
	raw := make([]byte, 30)
	_, _ = rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}
