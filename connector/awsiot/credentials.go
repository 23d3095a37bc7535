package awsiot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"sluice"
)

// credentialsDefault asks for the chain of the AWS SDKs: environment, shared
// files, web identity, container, instance. It is never used unasked: what a
// machine happens to be allowed is not what its operator meant.
const credentialsDefault = "default"

const (
	// roleWindow is how long before their end the credentials of a role are
	// renewed, at most.
	roleWindow = 5 * time.Minute
	// roleRetry is how long a role that could not be renewed goes on with what
	// it has before it is tried again.
	roleRetry = 30 * time.Second
)

// newIdentity makes the credentials of a configuration, and tells for people what
// they are; nil where there are none. It asks nobody yet.
func (d *dialer) newIdentity(client *http.Client) (p aws.CredentialsProvider, who string) {
	c := &d.cfg
	switch {
	case !c.signs():
		return nil, ""
	case c.Credentials == credentialsDefault:
		p, who = &chain{region: c.Region}, "the credentials of the default chain"
	default:
		p = credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
		who = "the access key " + shortKey(c.AccessKeyID)
	}
	if c.RoleARN == "" {
		return p, who
	}
	o := sts.Options{
		Region: c.Region, Credentials: p, HTTPClient: client, RetryMode: aws.RetryModeStandard, RetryMaxAttempts: 3, AppID: "sluice",
	}
	if c.STSEndpoint != "" {
		o.BaseEndpoint = aws.String(c.STSEndpoint)
	}
	assume := stscreds.NewAssumeRoleProvider(sts.New(o), c.RoleARN, func(a *stscreds.AssumeRoleOptions) {
		a.RoleSessionName = "sluice-" + d.spec.Instance + "-" + d.spec.Connection.ID
		if c.ExternalID != "" {
			a.ExternalID = aws.String(c.ExternalID)
		}
	})
	r := &role{d: d, base: who, assume: assume}
	return aws.NewCredentialsCache(r, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow = roleWindow
	}), "the role " + c.RoleARN
}

// chain is the default chain. It is read when it is first needed, since a
// Dialer is made without input or output.
type chain struct {
	region string

	mu     sync.Mutex
	loaded aws.CredentialsProvider
}

// Retrieve makes chain a provider.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c.mu.Lock()
	if c.loaded == nil {
		conf, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(c.region))
		if err != nil {
			c.mu.Unlock()
			return aws.Credentials{}, chainFailure(err)
		}
		c.loaded = conf.Credentials
	}
	p := c.loaded
	c.mu.Unlock()
	creds, err := p.Retrieve(ctx)
	if err != nil {
		return creds, chainFailure(err)
	}
	return creds, nil
}

func chainFailure(err error) *sluice.Failure {
	return notConnected(sluice.ReasonAuthentication, err, "No credentials of AWS were found on this machine.",
		"credentials: default looks in the environment (AWS_ACCESS_KEY_ID), in ~/.aws of the user that Sluice runs as, and asks the container "+
			"or the instance for its role. Give it one of these, or give accessKeyId and secretAccessKey.")
}

// role assumes a role. Where it cannot be assumed again it goes on with the
// credentials that it has, as long as they are good, and says what is wrong.
type role struct {
	d      *dialer
	base   string // who assumes it
	assume aws.CredentialsProvider

	mu   sync.Mutex
	last aws.Credentials
}

// Retrieve makes role a provider. It is called by a cache, when the credentials
// that it gave are about to end.
func (r *role) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err := r.assume.Retrieve(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.last = creds
		return creds, nil
	}
	if f, ok := errors.AsType[*sluice.Failure](err); ok { // of the chain
		r.tell(f)
		return aws.Credentials{}, f
	}
	f := r.failure(err)
	if ctx.Err() == nil {
		r.tell(f)
	}
	if left := time.Until(r.last.Expires); r.last.HasKeys() && left > roleRetry {
		old := r.last
		old.Expires = time.Now().Add(roleWindow + roleRetry) // as the cache counts
		return old, nil
	}
	return aws.Credentials{}, f
}

func (r *role) tell(f *sluice.Failure) {
	r.d.tell(sluice.LevelError, sluice.EventCredentialsFailed, "Credentials not renewed", string(f.Reason), "", f)
}

func (r *role) failure(err error) *sluice.Failure {
	c := &r.d.cfg
	f := notConnected(sluice.ReasonUnreachable, err, "The role "+c.RoleARN+" cannot be assumed: AWS STS does not answer.",
		"Check that this machine may open connections to sts."+c.Region+"."+domain(c.Region)+", port 443.")
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return f
	}
	f.Reason = sluice.ReasonAuthentication
	f.Message = fmt.Sprintf("The role %s cannot be assumed by %s (%s).", c.RoleARN, r.base, api.ErrorCode())
	switch code := api.ErrorCode(); {
	case strings.Contains(code, "AccessDenied"):
		f.Reason = sluice.ReasonNotAuthorized
		f.Hint = "Allow sts:AssumeRole on the role for who assumes it, and name that one in the role's trust policy"
		if c.ExternalID != "" {
			f.Hint += "; the policy's sts:ExternalId must be the externalId given here."
		} else {
			f.Hint += "; where that asks for an external id, give externalId."
		}
	case api.ErrorFault() == smithy.FaultServer || strings.Contains(code, "Throttl"):
		f.Reason, f.Hint = sluice.ReasonThrottled, "It is tried again."
	default:
		f.Hint = "Check the access key, the region, and the clock of this machine."
	}
	return f
}
