package iam

import (
	"maps"
	"net/http"
	"slices"

	"sluice/connector/awsiot/awsiottest/policy"
)

// What an administrator does by the API: make a user, give it a policy, make
// its access key. Source: IAM API Reference, CreateUser, PutUserPolicy,
// CreateAccessKey, DeleteAccessKey and "Quotas" (two keys of a user).

// maxKeys is how many access keys a user has at most.
const maxKeys = 2

// Refused is why the API does not do something.
type Refused struct {
	Status        int
	Code, Message string
}

type user struct {
	arn, id  string
	policies map[string]*policy.Document // inline, by name
	keys     []string                    // ids
}

// User is what the API tells of one.
type User struct{ Name, ARN, ID string }

// CreateUser makes a user without a key, who may do nothing.
func (a *Account) CreateUser(name string) (User, *Refused) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.users[name] != nil {
		return User{}, &Refused{http.StatusConflict, "EntityAlreadyExists", "User with name " + name + " already exists."}
	}
	u := &user{arn: a.arn("iam", "user/"+name), id: newID("AIDA"), policies: map[string]*policy.Document{}}
	a.users[name] = u
	return User{Name: name, ARN: u.arn, ID: u.id}, nil
}

func noUser(name string) *Refused {
	return &Refused{http.StatusNotFound, "NoSuchEntity", "The user with name " + name + " cannot be found."}
}

// PutUserPolicy gives a user an inline policy, in the place of one of that
// name. It holds for keys that exist, too.
func (a *Account) PutUserPolicy(name, called string, p *policy.Document) *Refused {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[name]
	if u == nil {
		return noUser(name)
	}
	u.policies[called] = p
	for _, id := range u.keys {
		i := a.identities[id]
		i.documents = u.documents()
		a.identities[id] = i
	}
	return nil
}

func (u *user) documents() []*policy.Document { return slices.Collect(maps.Values(u.policies)) }

// CreateAccessKey makes an access key of a user.
func (a *Account) CreateAccessKey(name string) (Key, *Refused) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[name]
	if u == nil {
		return Key{}, noUser(name)
	}
	u.keys = slices.DeleteFunc(u.keys, func(id string) bool { _, there := a.identities[id]; return !there })
	if len(u.keys) >= maxKeys {
		return Key{}, &Refused{http.StatusConflict, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2"}
	}
	key := Key{ID: newID("AKIA"), Secret: newSecret()}
	u.keys = append(u.keys, key.ID)
	a.identities[key.ID] = Identity{Key: key, ARN: u.arn, UserID: u.id, userName: name, documents: u.documents()}
	return key, nil
}
