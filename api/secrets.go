package api

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"sluice/internal/schema"
)

// masked is what a secret looks like from outside; sent back, it means the
// stored value.
const masked = "*****"

// mask hides the secrets of a configuration. One that cannot be read is hidden
// as a whole.
func mask(configuration json.RawMessage, secrets []string) json.RawMessage {
	if !gjson.ValidBytes(configuration) {
		return json.RawMessage("{}")
	}
	out := configuration
	for _, name := range secrets {
		value := gjson.GetBytes(out, escape(name))
		if !value.Exists() || value.Type == gjson.Null || value.Raw == `""` {
			continue
		}
		changed, err := sjson.SetBytes(out, escape(name), masked)
		if err != nil {
			return json.RawMessage("{}")
		}
		out = changed
	}
	return out
}

// maskAll hides every property: for a configuration whose schema is gone.
func maskAll(configuration json.RawMessage) json.RawMessage {
	var names []string
	for name := range gjson.ParseBytes(configuration).Map() {
		names = append(names, name)
	}
	return mask(configuration, names)
}

// unmask puts the stored secrets where the draft has "*****" for them. Where
// nothing is stored to be kept, that is a problem.
func (d *draft) unmask(stored json.RawMessage, secrets []string) {
	configuration, _ := d.doc["configuration"].(map[string]any)
	for _, name := range secrets {
		if configuration[name] != masked {
			continue
		}
		kept := gjson.GetBytes(stored, escape(name))
		if !kept.Exists() {
			d.problem(schema.Under("configuration", name), "there is no stored value that '%s' could stand for: enter it", masked)
			continue
		}
		changed, err := sjson.SetRawBytes(d.fields["configuration"], escape(name), []byte(kept.Raw))
		if err != nil {
			d.problem(schema.Under("configuration", name), "cannot be set")
			continue
		}
		d.fields["configuration"] = changed
		configuration[name] = kept.Value()
	}
}

// keep puts stored values where the draft leaves them out.
func (d *draft) keep(stored json.RawMessage, names []string) {
	configuration, _ := d.doc["configuration"].(map[string]any)
	for _, name := range names {
		kept := gjson.GetBytes(stored, escape(name))
		if _, given := configuration[name]; given || !kept.Exists() {
			continue
		}
		changed, err := sjson.SetRawBytes(d.fields["configuration"], escape(name), []byte(kept.Raw))
		if err != nil {
			continue // it is no object, which is told
		}
		d.fields["configuration"] = changed
		configuration[name] = kept.Value()
	}
}

// escape writes a property's name as a path of gjson and sjson.
func escape(name string) string {
	return strings.NewReplacer(`\`, `\\`, `.`, `\.`, `*`, `\*`, `?`, `\?`, `|`, `\|`, `#`, `\#`, `@`, `\@`).Replace(name)
}
