package iam

import (
	"net/http"
	"slices"
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
	policies map[string]Policy // inline, by name
	keys     []string          // ids
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
	u := &user{arn: a.arn("iam", "user/"+name), id: newID("AIDA"), policies: map[string]Policy{}}
	a.users[name] = u
	return User{Name: name, ARN: u.arn, ID: u.id}, nil
}

func noUser(name string) *Refused {
	return &Refused{http.StatusNotFound, "NoSuchEntity", "The user with name " + name + " cannot be found."}
}

// PutUserPolicy gives a user an inline policy, in the place of one of that
// name. It holds for keys that exist, too.
func (a *Account) PutUserPolicy(name, policy string, p Policy) *Refused {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[name]
	if u == nil {
		return noUser(name)
	}
	u.policies[policy] = p
	for _, id := range u.keys {
		i := a.identities[id]
		i.policy = u.all()
		a.identities[id] = i
	}
	return nil
}

// all are the user's policies as one.
func (u *user) all() Policy {
	var all Policy
	for _, p := range u.policies {
		all.Statements = append(all.Statements, p.Statements...)
	}
	return all
}

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
	a.identities[key.ID] = Identity{Key: key, ARN: u.arn, UserID: u.id, policy: u.all()}
	return key, nil
}
