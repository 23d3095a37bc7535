package awsiot

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"sluice"
	"sluice/internal/pattern"
)

// AWS's limits of things. Source: the API's service model and AWS IoT Core
// quotas, "Thing resource limits".
const (
	maxThingName          = 128
	maxAttributeName      = 128
	maxAttributeValue     = 800
	maxAttributesTyped    = 50
	maxAttributesUntyped  = 3
	maxThingGroups        = 10
	defaultNamePattern    = "{DevEUI}"
	attributePunctuation  = "_.,@/:#-"
	thingNamePunctuation  = ":_-"
	thingNameCharacters   = "letters, digits, ':', '_' and '-', at most 128"
	attributeNameSentence = "letters, digits and _ . , @ / : # -, at most 128"
)

// wish is what a configuration wants of things.
type wish struct {
	create       bool
	thingType    string
	principal    string // the certificate to attach, "" for none
	groups       []string
	billingGroup string
	name         *pattern.Pattern
	// plain says that the name is made of the DevEUI alone.
	plain        bool
	attributes   []attribute // sorted by name
	tagAttribute string

	// place marks things by where they are and how they are named: a thing of
	// another place says nothing. tag marks them by all that is wanted too.
	place, tag string
}

// attribute is an attribute of things.
type attribute struct {
	name  string
	value *pattern.Pattern
}

func newWish(c *config) (w wish, err error) {
	w = wish{
		create: c.CreateDevices, thingType: c.DeviceType, groups: c.ThingGroups, billingGroup: c.BillingGroup,
		tagAttribute: c.ThingTagAttribute,
	}
	if _, ok := parseCertificateARN(c.CertificateID); ok {
		w.principal = c.CertificateID
	}
	if w.name, err = pattern.Compile(c.ThingNamePattern); err != nil {
		return w, fmt.Errorf("thingNamePattern: %w", err)
	}
	const any = "0123456789ABCDEF"
	if name, err := w.name.Resolve([]byte("{}"), "", any); err == nil && w.name.Static().Expressions == 1 {
		eui, ok := w.name.Match(name)
		w.plain = ok && eui == any
	}
	for _, name := range slices.Sorted(maps.Keys(c.ThingAttributes)) {
		p, err := pattern.Compile(c.ThingAttributes[name])
		if err != nil {
			return w, fmt.Errorf("thingAttributes.%s: %w", name, err)
		}
		w.attributes = append(w.attributes, attribute{name, p})
	}
	w.place = digest(c.controlAddress(), c.Region, c.AccountPrefix, c.ThingNamePattern)
	rest := []string{c.DeviceType, w.principal, fmt.Sprint(c.CreateDevices), w.billingGroup, w.tagAttribute, fmt.Sprint(len(w.groups))}
	rest = append(rest, w.groups...)
	for _, a := range w.attributes {
		rest = append(rest, a.name, a.value.String())
	}
	w.tag = w.place + digest(rest...)
	return w, nil
}

func digest(texts ...string) string {
	h := sha256.New()
	for _, s := range texts {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// isThere reports whether a thing that is remembered exists for this
// configuration, if not quite as it wants it.
func (w *wish) isThere(t sluice.Thing) bool {
	return t.State == sluice.ThingRegistered && strings.HasPrefix(t.Tag, w.place)
}

// nameOf makes the name of a message's thing.
func (w *wish) nameOf(m *sluice.Message) (string, *refusal) {
	name, err := w.name.Resolve(m.Document, string(m.Kind), m.DevEUI)
	if err != nil {
		return "", &refusal{kind: "name", final: true, Failure: sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonPattern, Err: err,
			Message: fmt.Sprintf("The thing of %s has no name: in thingNamePattern, %v.", m.DevEUI, err),
			Hint:    "Give an alternative, such as {CustomerData.name|DevEUI}.",
		}}
	}
	if !isThingName(name) {
		return "", &refusal{kind: "name", final: true, Failure: sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonPattern,
			Message: fmt.Sprintf("The thing of %s cannot be named %q: a name is %s.", m.DevEUI, name, thingNameCharacters),
			Hint:    "Change thingNamePattern, or the value in the network server that it takes.",
		}}
	}
	return name, nil
}

// nameFor makes the name of the thing of a device, where plain.
func (w *wish) nameFor(devEUI string) string {
	name, _ := w.name.Resolve([]byte("{}"), "", devEUI)
	return name
}

// follows reports whether what a message says goes into the attributes of its
// thing. Only uplinks carry all that there is to know of a device.
func (w *wish) follows(m *sluice.Message) bool {
	return m.Kind == sluice.KindUplink && (len(w.attributes) > 0 || w.tagAttribute != "")
}

// each goes through the attributes of a message's thing. What does not resolve
// is left out.
func (w *wish) each(m *sluice.Message, yield func(name string, value []byte)) {
	var buf [256]byte
	for _, a := range w.attributes {
		value, err := a.value.Append(buf[:0], m.Document, string(m.Kind), m.DevEUI)
		if err == nil && len(value) > 0 {
			yield(a.name, sanitise(value))
		}
	}
	if w.tagAttribute != "" && len(m.Tags) > 0 {
		yield(w.tagAttribute, sanitise([]byte(strings.Join(m.Tags, ","))))
	}
}

// read returns the attributes of a message's thing with their mark.
func (w *wish) read(m *sluice.Message) (map[string]string, uint64) {
	all := map[string]string{}
	w.each(m, func(name string, value []byte) { all[name] = string(value) })
	return all, w.mark(m)
}

// mark is a hash of the attributes, 0 where there are none.
func (w *wish) mark(m *sluice.Message) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	hash, some := uint64(offset), false
	w.each(m, func(name string, value []byte) {
		some = true
		for i := range len(name) {
			hash = (hash ^ uint64(name[i])) * prime
		}
		hash *= prime
		for _, c := range value {
			hash = (hash ^ uint64(c)) * prime
		}
		hash *= prime
	})
	if !some {
		return 0
	}
	return max(1, hash)
}

// sanitise makes a value of an attribute of any text, in place: AWS takes
// letters and digits of ASCII and a few others, no space. A character that it
// does not take becomes _.
func sanitise(value []byte) []byte {
	out := value[:0]
	for i := 0; i < len(value) && len(out) < maxAttributeValue; {
		r, n := utf8.DecodeRune(value[i:])
		i += n
		if !isWord(r, attributePunctuation) {
			r = '_'
		}
		out = append(out, byte(r))
	}
	return out
}

// isWord reports an ASCII letter or digit, or one of more.
func isWord(r rune, more string) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r < 0x80 && strings.ContainsRune(more, r)
}

func isThingName(s string) bool {
	return s != "" && len(s) <= maxThingName && !strings.ContainsFunc(s, func(r rune) bool { return !isWord(r, thingNamePunctuation) })
}

func isAttributeName(s string) bool {
	return s != "" && len(s) <= maxAttributeName && !strings.ContainsFunc(s, func(r rune) bool { return !isWord(r, attributePunctuation) })
}

// lacks reports whether a thing with the attributes have is still to be given
// one of those that are wanted. Others it may have as it likes.
func lacks(have, wanted map[string]string) bool {
	for name, value := range wanted {
		if have[name] != value {
			return true
		}
	}
	return false
}
