package awsiot

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"sluice"
)

type providerFunc func(context.Context) (aws.Credentials, error)

func (f providerFunc) Retrieve(ctx context.Context) (aws.Credentials, error) { return f(ctx) }

type recorder struct{ events []sluice.Event }

func (r *recorder) Record(e sluice.Event) { r.events = append(r.events, e) }

// A role that cannot be renewed goes on with what it has until that ends, and
// says so before.
func TestRoleNotRenewed(t *testing.T) {
	d := testDialer(t)
	events := &recorder{}
	d.told, d.spec.Events, d.spec.Clock = map[string]time.Time{}, events, time.Now
	var broken error
	life := time.Hour
	r := &role{d: d, base: "the access key", assume: providerFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "A", SecretAccessKey: "B", CanExpire: true, Expires: time.Now().Add(life)}, broken
	})}
	first, err := r.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken = errors.New("no answer")
	again, err := r.Retrieve(t.Context())
	if err != nil || again.AccessKeyID != first.AccessKeyID {
		t.Fatalf("while they are good: %v", err)
	}
	if again.Expires.Add(-roleWindow).After(first.Expires) {
		t.Error("they are used beyond their end")
	}
	if len(events.events) != 1 || events.events[0].Type != sluice.EventCredentialsFailed {
		t.Errorf("events: %+v", events.events)
	}
	broken, life = nil, roleRetry/2
	if _, err := r.Retrieve(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken = errors.New("no answer")
	if _, err := r.Retrieve(t.Context()); sluice.ReasonOf(err) != sluice.ReasonUnreachable {
		t.Errorf("at their end: %v", err)
	}
}
