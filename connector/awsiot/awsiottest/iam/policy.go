package iam

import (
	"fmt"
	"slices"

	"sluice/connector/awsiot/awsiottest/policy"
)

// The condition keys and policy variables whose values are known. Source: IAM
// User Guide, "AWS global condition context keys".
const (
	keyUserName = "aws:username" // of a user only
	keyUserID   = "aws:userid"
)

// ParsePolicy reads the policy of a user or a role. What could not be honoured
// is an error, so that no test goes by a permission that AWS would not give.
func ParsePolicy(document string) (*policy.Document, error) {
	d, err := policy.ParseIdentity(document)
	if err != nil {
		return nil, err
	}
	for _, key := range d.Keys() {
		if !slices.Contains([]string{keyUserName, keyUserID}, key) {
			return nil, fmt.Errorf("the emulator does not know the values of %s", key)
		}
	}
	return d, nil
}

// denied is AWS's sentence. Source: IAM User Guide, "Troubleshoot access
// denied error messages".
func denied(who, action, resource string, explicit bool) string {
	why := " because no identity-based policy allows the " + action + " action"
	if explicit {
		why = " with an explicit deny in an identity-based policy"
	}
	return "User: " + who + " is not authorized to perform: " + action + " on resource: " + resource + why
}
