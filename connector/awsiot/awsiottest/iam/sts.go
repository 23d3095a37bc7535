package iam

import (
	"fmt"
	"net/http"
	"regexp"
	"time"

	"sluice/connector/awsiot/awsiottest/policy"
)

// Error is an error of the Security Token Service.
type Error struct {
	Status        int
	Code, Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// The bounds of a session. Source: API reference, AssumeRole.
const (
	sessionMin     = 15 * time.Minute
	sessionMax     = 12 * time.Hour
	sessionDefault = time.Hour
)

var (
	sessionNamePattern = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalIDPattern  = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
)

// AssumeRole is a request for the credentials of a role.
type AssumeRole struct {
	RoleARN, SessionName string
	ExternalID           string
	Duration             time.Duration // 0 is an hour
}

func invalid(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: "ValidationError", Message: fmt.Sprintf(format, args...)}
}

func (r AssumeRole) check() *Error {
	switch {
	case len(r.RoleARN) < 20:
		return invalid("1 validation error detected: Value '%s' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20", r.RoleARN)
	case !sessionNamePattern.MatchString(r.SessionName):
		return invalid("1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", r.SessionName)
	case r.ExternalID != "" && (len(r.ExternalID) < 2 || len(r.ExternalID) > 1224 || !externalIDPattern.MatchString(r.ExternalID)):
		return invalid("1 validation error detected: Value at 'externalId' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@:\\/-]*")
	case r.Duration != 0 && (r.Duration < sessionMin || r.Duration > sessionMax):
		return invalid("1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value between 900 and 43200", int(r.Duration.Seconds()))
	}
	return nil
}

// AssumeRole gives an identity the credentials of a role. A role that does
// not exist, does not trust the caller or wants another external id is
// AccessDenied, all in the same words, as AWS answers.
func (a *Account) AssumeRole(caller Identity, r AssumeRole) (Identity, *Error) {
	if bad := r.check(); bad != nil {
		return Identity{}, bad
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	role := a.roles[r.RoleARN]
	if role == nil || !caller.Allows("sts:AssumeRole", r.RoleARN) || !role.trust.allows(caller.ARN, r.ExternalID) {
		return Identity{}, &Error{
			Status: http.StatusForbidden, Code: "AccessDenied",
			Message: "User: " + caller.ARN + " is not authorized to perform: sts:AssumeRole on resource: " + r.RoleARN,
		}
	}
	duration := r.Duration
	if duration == 0 {
		duration = sessionDefault
	}
	longest := role.trust.MaxSession
	if longest == 0 {
		longest = sessionDefault
	}
	if duration > longest {
		return Identity{}, invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	i := Identity{
		Key:       Key{ID: newID("ASIA"), Secret: newSecret(), Token: newSecret() + newSecret(), Expires: a.clock().Add(duration).Truncate(time.Second)},
		ARN:       a.arn("sts", "assumed-role/"+role.name+"/"+r.SessionName),
		UserID:    role.id + ":" + r.SessionName,
		documents: []*policy.Document{role.policy},
	}
	a.identities[i.ID] = i
	return i, nil
}

func (t Trust) allows(caller, externalID string) bool {
	if t.ExternalID != "" && externalID != t.ExternalID {
		return false
	}
	if len(t.Principals) == 0 {
		return true
	}
	for _, p := range t.Principals {
		if policy.Match(p, caller) {
			return true
		}
	}
	return false
}
