package awsiottest

import (
	"time"

	"sluice/connector/awsiot/awsiottest/iam"
)

// identity is an IAM user or role, known by an access key.
type identity struct {
	secret string
	// token is the session token that must come with the key; "" for none.
	token string
	// expires is when the key is no longer good; zero for never.
	expires time.Time
	arn     string
	userID  string
	// allows reports whether its policies allow an action, such as
	// "iot:Connect", on a resource, a whole ARN.
	allows func(action, resource string) bool
	// denied is the sentence about an action that is not allowed.
	denied func(action, resource string) string
}

// identities knows the access keys of the account.
type identities interface {
	identity(accessKeyID string) (identity, bool)
}

// account is the emulator's account: its users and roles.
type account struct {
	*iam.Account
	faults *faults
}

var _ identities = account{}

func (a account) identity(id string) (identity, bool) {
	i, ok := a.Lookup(id)
	if !ok {
		return identity{}, false
	}
	return identity{
		secret: i.Secret, token: i.Token, expires: i.Expires, arn: i.ARN, userID: i.UserID,
		allows: func(action, resource string) bool { return !a.faults.isDenied(action) && i.Allows(action, resource) },
		denied: i.Denied,
	}, true
}

// AccessKey is an access key of a user, or of a session of a role.
type AccessKey struct {
	ID, Secret string
	// Token goes with a temporary key.
	Token string
}

// CreateUser makes a user with an access key and an IAM policy, a JSON
// document. One that names condition keys the emulator does not know is an error.
func (s *Server) CreateUser(name, policy string) (AccessKey, error) {
	p, err := iam.ParsePolicy(policy)
	if err != nil {
		return AccessKey{}, err
	}
	k := s.account.AddUser(name, p)
	return AccessKey{ID: k.ID, Secret: k.Secret}, nil
}

// DeleteAccessKey makes an access key unknown and reports whether it was
// known.
func (s *Server) DeleteAccessKey(id string) bool { return s.account.RemoveKey(id) }

// Role says what a role may do and who may assume it.
type Role struct {
	Name   string
	Policy string // an IAM policy, as for [Server.CreateUser]
	// Principals are the ARNs, with wildcards, of who may assume it; none is
	// everybody with the permission sts:AssumeRole on it.
	Principals []string
	// ExternalID must come with the request; "" asks for none.
	ExternalID string
	// MaxSession is how long a session lasts at most; 0 is an hour.
	MaxSession time.Duration
}

// CreateRole makes a role that the emulator's STS hands out credentials of
// (see [Server.ControlURL]), and returns its ARN.
func (s *Server) CreateRole(r Role) (string, error) {
	p, err := iam.ParsePolicy(r.Policy)
	if err != nil {
		return "", err
	}
	return s.account.AddRole(r.Name, p, iam.Trust{Principals: r.Principals, ExternalID: r.ExternalID, MaxSession: r.MaxSession}), nil
}
