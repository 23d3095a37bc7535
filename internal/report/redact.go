package report

import (
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// Redacted stands where a secret was.
const Redacted = "*****"

// Redact returns a copy of a JSON document that may be shown or logged: the
// values of AppSKey, AS_KEY, asKey, Token and other fields that name a session,
// network or application key are replaced, at any depth. What is not a JSON
// object is not shown at all.
func Redact(document []byte) []byte {
	if !utf8.Valid(document) || tooDeep(document) || !gjson.ValidBytes(document) {
		return []byte(`"(unreadable)"`)
	}
	doc := gjson.ParseBytes(document)
	if !doc.IsObject() {
		return []byte(`"(unreadable)"`)
	}
	return redact(make([]byte, 0, len(document)), doc)
}

// redact appends value without its secrets. It nests as deep as the document,
// which tooDeep has bounded.
func redact(b []byte, value gjson.Result) []byte {
	first := true
	comma := func() {
		if !first {
			b = append(b, ',')
		}
		first = false
	}
	switch {
	case value.IsObject():
		joined := value.Get("Type").Str == "join"
		b = append(b, '{')
		value.ForEach(func(key, field gjson.Result) bool {
			comma()
			b = append(append(b, key.Raw...), ':')
			// Var1 of a join notification is the AppSKey, encrypted.
			if isSecret(key.Str) || joined && key.Str == "Var1" {
				b = append(b, `"`+Redacted+`"`...)
			} else {
				b = redact(b, field)
			}
			return true
		})
		return append(b, '}')
	case value.IsArray():
		b = append(b, '[')
		value.ForEach(func(_, item gjson.Result) bool {
			comma()
			b = redact(b, item)
			return true
		})
		return append(b, ']')
	case value.Type == gjson.String && strings.ContainsAny(value.Str, "{["):
		// A document inside a text, as untyped JSON has it.
		return append(b, redactText(value)...)
	}
	return append(b, value.Raw...)
}

// redactText keeps a text that may hold a document only when it holds no
// field that is a secret.
func redactText(value gjson.Result) string {
	lower := strings.ToLower(value.Str)
	if strings.Contains(lower, "key") || strings.Contains(lower, "token") {
		return `"` + Redacted + `"`
	}
	return value.Raw
}

func isSecret(field string) bool {
	field = strings.ToLower(strings.ReplaceAll(field, "_", ""))
	switch field {
	case "token", "askey", "tiak", "password", "secretaccesskey", "privatekey":
		return true
	}
	// AppSKey, NwkSKey, FNwkSIntKey, AppKey, NwkKey, downlinkAsKey, ...
	return strings.HasSuffix(field, "key")
}
