package iam

import (
	"strings"
	"testing"
	"time"

	"sluice/connector/awsiot/awsiottest/policy"
)

// What could not be honoured is refused: no test goes by a permission that AWS
// would not give.
func TestParsePolicy(t *testing.T) {
	for _, bad := range []string{
		``, `{}`, `{"Statement":[1]}`, `{"Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}`, `{"Statement":[{"Effect":"Allow","Action":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`,
		`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{}}}],"x":1}`,
		`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}]}`,
		`{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NumericEquals":{"aws:username":"1"}}}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:iot:*:*:thing/${aws:PrincipalTag/x}"}]}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:username":"${iot:ClientId}"}}}]}`,
	} {
		if _, err := ParsePolicy(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// A policy may speak of the user that it belongs to; of a role there is none.
func TestPolicyOfTheUser(t *testing.T) {
	p, err := ParsePolicy(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:*","Resource":"thing/${aws:username}-*"},
		{"Effect":"Deny","Action":"iot:DeleteThing","Resource":"*","Condition":{"StringNotEquals":{"aws:username":"admin"}}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAccount("aws", "123456789012", time.Now)
	may := func(key Key, action, resource string) bool {
		i, _ := a.Lookup(key.ID)
		return i.Allows(action, resource)
	}
	for name, deletes := range map[string]bool{"admin": true, "u": false} {
		key := a.AddUser(name, p)
		if !may(key, "iot:CreateThing", "thing/"+name+"-1") || may(key, "iot:CreateThing", "thing/other-1") || may(key, "iot:DeleteThing", "thing/"+name+"-1") != deletes {
			t.Errorf("user %s: it may not do what it may", name)
		}
	}
	caller, _ := a.Lookup(a.AddUser("caller", policy.AllowActions("sts:*")).ID)
	i, refused := a.AssumeRole(caller, AssumeRole{RoleARN: a.AddRole("r", p, Trust{}), SessionName: "session"})
	if refused != nil {
		t.Fatal(refused)
	}
	if i.Allows("iot:CreateThing", "thing/-1") || i.Allows("iot:CreateThing", "thing/r-1") {
		t.Error("a role has the name of a user")
	}
}

func TestDenied(t *testing.T) {
	p, err := ParsePolicy(`{"Statement":{"Effect":"Deny","Action":"b:*","Resource":"*"}}`)
	if err != nil {
		t.Fatal(err)
	}
	i := Identity{ARN: "arn:aws:iam::1:user/u", documents: []*policy.Document{p}}
	if got, want := i.Denied("a:x", "r"), "User: arn:aws:iam::1:user/u is not authorized to perform: a:x on resource: r because no identity-based policy allows the a:x action"; got != want {
		t.Errorf("%q", got)
	}
	if got, want := i.Denied("b:x", "r"), "User: arn:aws:iam::1:user/u is not authorized to perform: b:x on resource: r with an explicit deny in an identity-based policy"; got != want {
		t.Errorf("%q", got)
	}
}

func TestAssumeRole(t *testing.T) {
	now := time.Unix(1000, 0)
	a := NewAccount("aws", "123456789012", func() time.Time { return now })
	key := a.AddUser("bridge", policy.AllowActions("sts:AssumeRole"))
	weak := a.AddUser("weak", policy.AllowActions("iot:*"))
	role := a.AddRole("iot", policy.AllowActions("iot:*"), Trust{Principals: []string{"*user/bridge", "*user/weak"}, ExternalID: "xyz"})
	private := a.AddRole("private", policy.AllowActions("*"), Trust{Principals: []string{"*user/other"}})
	ask := func(key Key, r AssumeRole) (Identity, string) {
		t.Helper()
		who, ok := a.Lookup(key.ID)
		if !ok {
			t.Fatal("no such key")
		}
		if r.SessionName == "" {
			r.SessionName = "session"
		}
		i, err := a.AssumeRole(who, r)
		if err != nil {
			return i, err.Error()
		}
		return i, ""
	}
	denied := "AccessDenied: User: arn:aws:iam::123456789012:user/bridge is not authorized to perform: sts:AssumeRole on resource: "
	for what, test := range map[string]struct {
		key  Key
		r    AssumeRole
		want string
	}{
		"no external id":      {key, AssumeRole{RoleARN: role}, denied + role},
		"another external id": {key, AssumeRole{RoleARN: role, ExternalID: "abc"}, denied + role},
		"not trusted":         {key, AssumeRole{RoleARN: private}, denied + private},
		"no such role":        {key, AssumeRole{RoleARN: role + "x"}, denied + role + "x"},
		"not allowed":         {weak, AssumeRole{RoleARN: role, ExternalID: "xyz"}, strings.Replace(denied, "bridge", "weak", 1) + role},
		"too long":            {key, AssumeRole{RoleARN: role, ExternalID: "xyz", Duration: 2 * time.Hour}, "ValidationError: The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
	} {
		if _, got := ask(test.key, test.r); got != test.want {
			t.Errorf("%s: %s", what, got)
		}
	}
	for _, r := range []AssumeRole{{RoleARN: "x"}, {RoleARN: role, SessionName: "a b"}, {RoleARN: role, ExternalID: "ä"}, {RoleARN: role, Duration: time.Minute}} {
		if _, got := ask(key, r); !strings.HasPrefix(got, "ValidationError: 1 validation error detected: Value") {
			t.Errorf("%+v: %s", r, got)
		}
	}
	i, bad := ask(key, AssumeRole{RoleARN: role, ExternalID: "xyz", SessionName: "sluice"})
	if bad != "" || i.ARN != "arn:aws:sts::123456789012:assumed-role/iot/sluice" || i.Token == "" || !strings.HasSuffix(i.UserID, ":sluice") || !strings.HasPrefix(i.ID, "ASIA") {
		t.Fatalf("%+v %s", i, bad)
	}
	found, ok := a.Lookup(i.ID)
	if !ok || !found.Allows("iot:CreateThing", "*") || found.Allows("sts:AssumeRole", "*") || found.Expired(now) || !found.Expired(now.Add(time.Hour)) {
		t.Errorf("%+v", found)
	}
	if !a.RemoveKey(key.ID) || a.RemoveKey(key.ID) {
		t.Error("the key cannot be removed once")
	}
}

func TestUsers(t *testing.T) {
	a := NewAccount("aws", "123456789012", time.Now)
	if _, refused := a.CreateUser("u"); refused != nil {
		t.Fatal(refused)
	}
	first, refused := a.CreateAccessKey("u")
	if refused != nil {
		t.Fatal(refused)
	}
	if i, ok := a.Lookup(first.ID); !ok || i.Allows("iot:ListThings", "*") {
		t.Errorf("a user without a policy: %+v", i)
	}
	for name, action := range map[string]string{"one": "iot:ListThings", "two": "iot:DescribeThing"} {
		if refused := a.PutUserPolicy("u", name, policy.AllowActions(action)); refused != nil {
			t.Fatal(refused)
		}
	}
	if i, _ := a.Lookup(first.ID); !i.Allows("iot:ListThings", "*") || !i.Allows("iot:DescribeThing", "*") || i.Allows("iot:CreateThing", "*") {
		t.Error("the policies do not hold")
	}
	if refused := a.PutUserPolicy("u", "one", &policy.Document{}); refused != nil {
		t.Fatal(refused)
	}
	if i, _ := a.Lookup(first.ID); i.Allows("iot:ListThings", "*") {
		t.Error("a policy that was replaced holds")
	}
	if _, refused := a.CreateAccessKey("u"); refused != nil {
		t.Fatal(refused)
	}
	if _, refused := a.CreateAccessKey("u"); refused == nil || refused.Code != "LimitExceeded" {
		t.Errorf("a third key: %v", refused)
	}
	a.RemoveKey(first.ID)
	if _, refused := a.CreateAccessKey("u"); refused != nil {
		t.Errorf("a key in the place of one: %v", refused)
	}
}
