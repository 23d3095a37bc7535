package report

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"sluice"
)

// parser collects the identity in one pass over the fields.
type parser struct {
	r    Report
	seen uint32 // a bit for each field that was met
	err  error
	// hasModelCfg and hasCustomerData tell documents without tags from those
	// that have no place for them.
	hasModelCfg, hasCustomerData bool
	modelTags                    []string
}

// field takes one field of the report; it returns false to stop.
func (p *parser) field(key, value string) bool {
	switch key {
	case "DevEUI":
		if p.r.Kind != sluice.KindBSAlarm {
			return p.scalar(0, &p.r.Device, key, value)
		}
	case "LrrID":
		if p.r.Kind == sluice.KindBSAlarm {
			return p.scalar(0, &p.r.Device, key, value)
		}
	case "CustomerID":
		return p.scalar(1, &p.r.CustomerID, key, value)
	case "FPort":
		return p.scalar(2, &p.r.FPort, key, value)
	case "FCntUp":
		return p.scalar(3, &p.r.FCntUp, key, value)
	case "FCntDn":
		return p.scalar(4, &p.r.FCntDn, key, value)
	case "payload_hex":
		return p.scalar(5, &p.r.Payload, key, value)
	case "mic_hex":
		return p.scalar(6, &p.r.MIC, key, value)
	case "CorrelationID":
		return p.scalar(7, &p.r.CorrelationID, key, value)
	case "Time":
		return p.scalar(8, &p.r.timeText, key, value)
	case "ModelCfg":
		var text string
		ok := p.scalar(9, &text, key, value)
		p.modelTags, p.hasModelCfg = modelTags(text), true
		return ok
	case "CustomerData":
		p.hasCustomerData = true
		return p.provisioned(10, key, value)
	case "BaseStationData":
		return p.provisioned(11, key, value)
	}
	return true
}

// once marks a field as met, and refuses it when it is met again: what signs
// the report and what reads it later might take different ones.
func (p *parser) once(bit int, key string) bool {
	if p.seen&(1<<bit) != 0 {
		p.err = refuse("The document has the field %s twice.", key)
		return false
	}
	p.seen |= 1 << bit
	return true
}

func (p *parser) scalar(bit int, to *string, key, value string) bool {
	if !p.once(bit, key) {
		return false
	}
	switch value[0] {
	case '{', '[':
		p.err = refuse("The field %s of the document is not a single value.", key)
		return false
	case '"':
		*to = unquote(value)
	case 'n': // null
	default:
		*to = value
	}
	return true
}

// provisioned reads what the operator provisioned: an object, or (in untyped
// JSON) the text of one. What is neither says nothing.
func (p *parser) provisioned(bit int, key, value string) bool {
	if !p.once(bit, key) {
		return false
	}
	if value[0] == '"' {
		value = strings.TrimSpace(unquote(value))
		if tooDeep([]byte(value)) || !gjson.Valid(value) {
			return true
		}
	}
	if value == "" || value[0] != '{' {
		return true
	}
	members(value, 0, func(key, value string) bool {
		switch {
		case key == "name" && value[0] == '"':
			p.r.Name = strings.Clone(unquote(value))
		case key == "tags" && value[0] == '[':
			for _, tag := range gjson.Parse(value).Array() {
				if tag.Type != gjson.JSON && tag.Type != gjson.Null {
					p.r.Tags = addTag(p.r.Tags, tag.String())
				}
			}
		}
		return true
	})
	return true
}

// finish checks and completes what the fields gave.
func (p *parser) finish() {
	r := &p.r
	var ok bool
	switch {
	case r.Device == "":
	case r.Kind == sluice.KindBSAlarm:
		if r.DevEUI, ok = lrrID(r.Device); !ok {
			p.err = refuse("The LrrID of the document is not the id of a base station.")
		}
	default:
		if r.DevEUI, ok = DevEUI(r.Device); !ok {
			p.err = refuse("The DevEUI of the document is not 16 hexadecimal digits.")
		}
	}
	r.Time, _ = ParseTime(r.timeText)
	if !p.hasAllTags() {
		r.Tags = nil
		return
	}
	for _, tag := range p.modelTags {
		r.Tags = addTag(r.Tags, tag)
	}
	if r.Tags == nil {
		r.Tags = []string{}
	}
}

// hasAllTags reports whether the document tells all tags of its device. A
// report that by its nature has no ModelCfg, such as DevEUI_downlink_Sent,
// tells only a part; the last one that told all is the better source then.
func (p *parser) hasAllTags() bool {
	if p.hasModelCfg {
		return true
	}
	switch p.r.Kind {
	case sluice.KindUplink, sluice.KindLocation, sluice.KindNotification:
		return p.hasCustomerData
	}
	return false
}

func addTag(tags []string, tag string) []string {
	tag = strings.TrimSpace(tag)
	if tag == "" || slices.Contains(tags, tag) {
		return tags
	}
	return append(tags, strings.Clone(tag))
}

// modelTags reads a ModelCfg: "0" has none, "1:TagA, 2:TagB" has two. The
// samples show this form; the rule is inferred from them.
func modelTags(text string) []string {
	if text == "" || text == "0" {
		return nil
	}
	var tags []string
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if number, tag, ok := strings.Cut(item, ":"); ok && isDigits(number) {
			item = tag
		} else if isDigits(item) {
			continue
		}
		tags = append(tags, item)
	}
	return tags
}
