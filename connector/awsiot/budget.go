package awsiot

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"
)

// The calls of the AWS IoT API that are made, by the names of their actions.
const (
	actionDescribe      = "DescribeThing"
	actionCreate        = "CreateThing"
	actionUpdate        = "UpdateThing"
	actionAttach        = "AttachThingPrincipal"
	actionGroup         = "AddThingToThingGroup"
	actionBilling       = "AddThingToBillingGroup"
	actionList          = "ListThings"
	actionListPrincipal = "ListPrincipalThings"
)

// quota is how many calls of an action AWS takes from an account a second.
// Sources: Service Quotas of AWS IoT Core, defaults; AddThingToBillingGroup:
// AWS IoT limits as of 2019, "Throttling limits".
func quota(action string) float64 {
	switch action {
	case actionDescribe:
		return 350
	case actionBilling:
		return 60
	case actionList, actionListPrincipal:
		return 10
	default:
		return 100
	}
}

const (
	// quotaShare is the part of a quota that is used: just under it, so that
	// a call that comes late does not make the next one too many.
	quotaShare = 0.98
	// spareShare is the part of that which is used for what nobody waits for.
	spareShare = 0.5
	// adaptivePause is how long an attempt waits before it asks again whether
	// AWS takes more.
	adaptivePause = 10 * time.Millisecond
)

// budget is what calls of one action an account may make.
//
// The ceiling is ours and fixed: every attempt passes it, also those that the
// SDK makes by itself. What AWS really takes is the SDK's to find out: its
// adaptive mode lowers the rate when AWS throttles, and raises it again after.
// So neither works against the other, and as there is one of both for an
// action, a throttle of one does not slow the others.
type budget struct {
	ceiling *rate.Limiter
	spare   *rate.Limiter
	*retry.AdaptiveMode
}

func newBudget(action string) *budget {
	r := quota(action) * quotaShare
	return &budget{
		ceiling:      rate.NewLimiter(rate.Limit(r), 1),
		spare:        rate.NewLimiter(rate.Limit(r*spareShare), 1),
		AdaptiveMode: retry.NewAdaptiveMode(adapt),
	}
}

// adapt sets the SDK's adaptive mode up. It takes LimitExceededException for a
// throttle, which in this API is a limit that is reached for good.
func adapt(o *retry.AdaptiveModeOptions) {
	o.FailOnNoAttemptTokens = true
	o.Throttles = append([]retry.IsErrorThrottle{retry.IsErrorThrottleFunc(notLimit)}, o.Throttles...)
	o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) {
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(notLimit)}, o.Retryables...)
	})
}

// notLimit is false for a limit that is reached, and has no opinion of others.
func notLimit(err error) aws.Ternary {
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "LimitExceededException" {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// wait waits for the turn of a call; spare is for one that nobody waits for.
func (b *budget) wait(ctx context.Context, spare bool) error {
	if spare {
		if err := b.spare.Wait(ctx); err != nil {
			return err
		}
	}
	return b.ceiling.Wait(ctx)
}

// paid is the key of a context whose first attempt has had its turn.
type paid struct{}

// with makes the context of a call that has had its turn.
func (b *budget) with(ctx context.Context) context.Context {
	first := true
	return context.WithValue(ctx, paid{}, &first)
}

// GetAttemptToken has each attempt of the SDK wait for its turn.
func (b *budget) GetAttemptToken(ctx context.Context) (func(error) error, error) {
	if first, _ := ctx.Value(paid{}).(*bool); first != nil && *first {
		*first = false
	} else if err := b.ceiling.Wait(ctx); err != nil {
		return nil, err
	}
	for {
		// The error only says that AWS takes no more just now. The waiting is
		// ours: the SDK's own spins where a rounding leaves it nothing to wait.
		done, err := b.AdaptiveMode.GetAttemptToken(ctx)
		if err == nil {
			return done, nil
		}
		t := time.NewTimer(adaptivePause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
}

// options has a call of the SDK use the budget.
func (b *budget) options(o *iot.Options) { o.Retryer = b }

// account is what one account of AWS in one region takes.
type account struct {
	mu      sync.Mutex
	budgets map[string]*budget
	users   int // guarded by accounts
}

func (a *account) budget(action string) *budget {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.budgets[action]
	if b == nil {
		b = newBudget(action)
		a.budgets[action] = b
	}
	return b
}

// accounts are those that the connections of this process use. AWS counts by
// account and region, so connections to the same share its budgets.
type accounts struct {
	mu  sync.Mutex
	all map[string]*account
}

func newAccounts() *accounts { return &accounts{all: map[string]*account{}} }

// join returns the account of a configuration; leave gives it back.
func (a *accounts) join(c *config) (of *account, leave func()) {
	key := c.accountKey()
	a.mu.Lock()
	defer a.mu.Unlock()
	of = a.all[key]
	if of == nil {
		of = &account{budgets: map[string]*budget{}}
		a.all[key] = of
	}
	of.users++
	return of, sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if of.users--; of.users == 0 {
			delete(a.all, key)
		}
	})
}

// accountKey names an account in a region: the prefix of its endpoint is its
// own.
func (c *config) accountKey() string {
	prefix, _, _ := strings.Cut(strings.ToLower(c.AccountPrefix), ".")
	return c.controlAddress() + " " + c.Region + " " + strings.TrimSuffix(prefix, "-ats")
}
