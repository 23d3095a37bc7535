package awsiottest

// identity is an IAM user or role, known by an access key.
type identity struct {
	secret string
	// token is the session token that must come with the key; "" for none.
	token string
	arn   string
	// allows reports whether its policies allow an action, such as
	// "iot:Connect", on a resource, a whole ARN.
	allows func(action, resource string) bool
}

// identities knows the access keys of the account.
type identities interface {
	identity(accessKeyID string) (identity, bool)
}

// oneKey is an account with one access key that may do all.
type oneKey struct {
	options Options
	key     accessKey
}

var _ identities = oneKey{}

func (o oneKey) identity(id string) (identity, bool) {
	if id != o.key.id {
		return identity{}, false
	}
	return identity{
		secret: o.key.secret, arn: "arn:aws:iam::" + o.options.AccountID + ":user/emulator",
		allows: func(string, string) bool { return true },
	}, true
}
