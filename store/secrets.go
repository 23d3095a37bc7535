package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice"
)

// record is an object as it lies in the bucket: as JSON, so that other tools
// can read it, without its secrets.
type record struct {
	Object json.RawMessage `json:"object"`
	// Secrets are the sealed values, by the names of the properties of the
	// configuration that they were taken from. The names are in clear, so that
	// one can tell what is lost with a key.
	Secrets map[string][]byte `json:"secrets,omitempty"`
	// Missing are the names of secrets that were dropped.
	Missing []string `json:"missing,omitempty"`
}

// encode makes the record of an object.
func (s *shelf[T]) encode(sealer sluice.Sealer, value T, secrets, missing []string) ([]byte, error) {
	r := record{Missing: missing}
	if s.configuration != nil {
		value = s.clone(value)
		configuration := s.configuration(&value)
		properties, err := splitObject(*configuration)
		if err != nil {
			return nil, err
		}
		if r.Secrets, err = takeSecrets(sealer, s.key(*s.id(&value)), properties, secrets); err != nil {
			return nil, err
		}
		*configuration = joinObject(properties)
	}
	object, err := marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode a %s: %w", s.kind, err)
	}
	r.Object = object
	document, err := marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode a %s: %w", s.kind, err)
	}
	return document, nil
}

// lostSecrets are the secrets of an object that cannot be opened, and why.
type lostSecrets struct {
	names []string
	err   error
}

// decode reads a record, with the secrets that can be opened put back. lost
// are the others.
func (s *shelf[T]) decode(sealer sluice.Sealer, document []byte) (e entry[T], lost lostSecrets, err error) {
	var r record
	if err := json.Unmarshal(document, &r); err != nil {
		return e, lost, fmt.Errorf("decode a %s: %w", s.kind, err)
	}
	if err := json.Unmarshal(r.Object, &e.value); err != nil {
		return e, lost, fmt.Errorf("decode a %s: %w", s.kind, err)
	}
	e.missing = r.Missing
	if s.configuration == nil || len(r.Secrets) == 0 {
		return e, lost, nil
	}
	configuration := s.configuration(&e.value)
	properties, err := splitObject(*configuration)
	if err != nil {
		return e, lost, err
	}
	for _, name := range slices.Sorted(maps.Keys(r.Secrets)) {
		value, err := openSecret(sealer, s.key(*s.id(&e.value)), name, r.Secrets[name])
		if err != nil {
			lost.names = append(lost.names, name)
			lost.err = errors.Join(lost.err, err)
			continue
		}
		properties[name] = value
	}
	*configuration = joinObject(properties)
	return e, lost, nil
}

// takeSecrets moves the named properties out of a configuration and seals them.
func takeSecrets(sealer sluice.Sealer, key string, properties map[string]json.RawMessage, names []string) (map[string][]byte, error) {
	sealed := make(map[string][]byte)
	for _, name := range names {
		value, ok := properties[name]
		if !ok {
			continue
		}
		s, err := sealer.Seal(append(binding(key, name), value...))
		if err != nil {
			return nil, &sluice.Error{
				Code:    sluice.CodeInternal,
				Message: "the secrets cannot be sealed",
				Hint:    "Check the key file: secrets are not stored in clear.",
				Err:     err,
			}
		}
		sealed[name] = s
		delete(properties, name)
	}
	return sealed, nil
}

// openSecret opens the value of a property.
func openSecret(sealer sluice.Sealer, key, name string, sealed []byte) (json.RawMessage, error) {
	clear, err := sealer.Open(sealed)
	if err != nil {
		return nil, err
	}
	value, ok := bytes.CutPrefix(clear, binding(key, name))
	if !ok || !json.Valid(value) {
		return nil, fmt.Errorf("the secret belongs elsewhere")
	}
	return value, nil
}

// binding is sealed in front of a value, so that a sealed value that was
// moved to another object or property does not open there.
func binding(key, name string) []byte { return []byte(key + "\x00" + name + "\x00") }

// splitObject takes a JSON object apart; the values keep their text. Of a
// property that is there twice, the last counts.
func splitObject(object json.RawMessage) (map[string]json.RawMessage, error) {
	if len(bytes.TrimSpace(object)) == 0 {
		return map[string]json.RawMessage{}, nil
	}
	var properties map[string]json.RawMessage
	// The error of the decoder may quote the text: it is not passed on.
	if err := json.Unmarshal(object, &properties); err != nil || properties == nil {
		return nil, sluice.Errorf(sluice.CodeInvalid, "the configuration is not a JSON object")
	}
	return properties, nil
}

// joinObject writes a JSON object with its properties in the order of their names.
func joinObject(properties map[string]json.RawMessage) json.RawMessage {
	out := []byte{'{'}
	for i, name := range slices.Sorted(maps.Keys(properties)) {
		if i > 0 {
			out = append(out, ',')
		}
		quoted, _ := marshal(name) // a string can always be encoded
		out = append(out, quoted...)
		out = append(out, ':')
		out = append(out, properties[name]...)
	}
	return append(out, '}')
}

// marshal encodes without the escapes that only HTML needs.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte{'\n'}), nil
}

// MissingSecret tells of an object that has lost secrets.
type MissingSecret struct {
	Kind    string   // "connection" or "network"
	ID      string   //
	Name    string   // the object's name
	Secrets []string // the names of the properties
}

func (m MissingSecret) String() string {
	return m.subject() + ": " + strings.Join(m.Secrets, ", ")
}

// subject names the object in logs and on the screen. The id of a network is
// as good as a password there: its name does.
func (m MissingSecret) subject() string {
	if m.Kind == networkKind {
		return m.Kind + " " + m.Name
	}
	return fmt.Sprintf("%s %s (%s)", m.Kind, m.ID, m.Name)
}

// MissingSecrets lists the secrets that were dropped because they could not
// be opened, in this run or an earlier one, of objects that were not replaced
// since.
func (s *Store) MissingSecrets() []MissingSecret {
	return append(missingOf(&s.connections), missingOf(&s.networks)...)
}

// MissingOfNetwork returns the names of the secrets that a network has lost;
// none for one that has lost nothing, or is not there.
func (s *Store) MissingOfNetwork(id string) []string {
	e, err := s.networks.entry(id)
	if err != nil {
		return nil
	}
	return slices.Clone(e.missing)
}

func missingOf[T any](s *shelf[T]) []MissingSecret {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []MissingSecret
	for _, id := range slices.SortedFunc(maps.Keys(s.objects), compareIDs) {
		if e := s.objects[id]; len(e.missing) > 0 {
			all = append(all, MissingSecret{s.kind, id, s.name(&e.value), slices.Clone(e.missing)})
		}
	}
	return all
}

// dropSecrets takes sealed secrets out of a record and notes them as missing.
func dropSecrets(document []byte, names []string) (changed []byte, missing []string, err error) {
	var r record
	if err := json.Unmarshal(document, &r); err != nil {
		return nil, nil, fmt.Errorf("decode a record: %w", err)
	}
	for _, name := range names {
		delete(r.Secrets, name)
	}
	r.Missing = append(r.Missing, names...)
	slices.Sort(r.Missing)
	r.Missing = slices.Compact(r.Missing)
	changed, err = marshal(r)
	return changed, r.Missing, err
}
