package thingparktest

import (
	"strconv"
	"time"
)

// writer writes a document in a form by appending to b.
type writer struct {
	b     []byte
	form  Form
	comma bool // the next member needs one before it
	space [32]byte
}

// name begins a member or an element.
func (w *writer) name(name string) {
	if w.form == XML {
		w.b = append(append(append(w.b, '<'), name...), '>')
		return
	}
	if len(w.b) == 0 {
		w.b = append(w.b, '{')
	} else if w.comma {
		w.b = append(w.b, ',')
	}
	w.comma = true
	w.b = append(append(append(w.b, '"'), name...), '"', ':')
}

func (w *writer) endName(name string) {
	if w.form == XML {
		w.b = append(append(append(w.b, '<', '/'), name...), '>')
	}
}

// begin begins an object; the first one is the root.
func (w *writer) begin(name string) {
	root := len(w.b) == 0
	if w.form == XML && root {
		w.b = append(w.b, `<?xml version="1.0" encoding="UTF-8"?><`...)
		w.b = append(append(w.b, name...), ` xmlns="http://uri.actility.com/lora">`...)
		return
	}
	w.name(name)
	w.open()
	if w.form == Untyped && root {
		w.text("-xmlns", "http://uri.actility.com/lora")
	}
}

func (w *writer) end(name string) {
	w.shut()
	w.endName(name)
	if name != "Lrrs" && w.form != XML {
		w.b = append(w.b, '}') // the document around the root
	}
}

func (w *writer) open() {
	if w.form != XML {
		w.b = append(w.b, '{')
	}
	w.comma = false
}

func (w *writer) shut() {
	if w.form != XML {
		w.b = append(w.b, '}')
	}
	w.comma = true
}

// beginList begins a member that is a list; in XML its items repeat the name.
func (w *writer) beginList(name string) {
	if w.form != XML {
		w.name(name)
		w.b = append(w.b, '[')
		w.comma = false
	}
}

func (w *writer) endList() {
	if w.form != XML {
		w.b = append(w.b, ']')
		w.comma = true
	}
}

func (w *writer) beginItem(name string) {
	if w.form == XML {
		w.name(name)
		return
	}
	if w.comma {
		w.b = append(w.b, ',')
	}
	w.open()
}

func (w *writer) endItem(name string) {
	w.shut()
	w.endName(name)
}

// text writes a string that needs no escapes.
func (w *writer) text(name, value string) {
	w.name(name)
	w.quote(true)
	w.b = append(w.b, value...)
	w.quote(true)
	w.endName(name)
}

// bytes writes a string that was made in w.space.
func (w *writer) bytes(name string, value []byte) {
	w.name(name)
	w.quote(true)
	w.b = append(w.b, value...)
	w.quote(true)
	w.endName(name)
}

func (w *writer) time(name string, t time.Time) {
	w.name(name)
	w.quote(true)
	w.b = t.AppendFormat(w.b, timeLayout)
	w.quote(true)
	w.endName(name)
}

func (w *writer) whole(name string, n int64) {
	w.name(name)
	w.quote(false)
	w.b = strconv.AppendInt(w.b, n, 10)
	w.quote(false)
	w.endName(name)
}

// real writes a number with its decimals: as many as needed, at least one, in
// typed JSON, and six in the others, as ThingPark does.
func (w *writer) real(name string, x float64) {
	w.name(name)
	w.quote(false)
	w.b = strconv.AppendFloat(w.b, x, 'f', 6, 64)
	if w.form == Typed {
		end := len(w.b)
		for w.b[end-1] == '0' && w.b[end-2] != '.' {
			end--
		}
		w.b = w.b[:end]
	}
	w.quote(false)
	w.endName(name)
}

// object writes what was provisioned, which is an object in typed JSON and
// its text in the other forms.
func (w *writer) object(name, json string) {
	w.name(name)
	if w.form == Untyped {
		w.b = strconv.AppendQuote(w.b, json)
	} else {
		w.b = append(w.b, json...)
	}
	w.endName(name)
}

// quote puts quotes around strings, and around numbers in untyped JSON.
func (w *writer) quote(isText bool) {
	if w.form == Untyped || w.form == Typed && isText {
		w.b = append(w.b, '"')
	}
}
