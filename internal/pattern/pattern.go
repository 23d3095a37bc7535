// Package pattern holds ThingPark's pattern expressions, of which topics are
// made: "tpx/things/{DevEUI}/uplink".
//
// Text stands for itself; what stands in braces is an expression, replaced by
// a value of the document:
//
//   - {DevEUI}: a field, looked up inside the root node (DevEUI_uplink, ...);
//   - {CustomerData.name}: a dotted path from there;
//   - {Lrrs.Lrr[0].Lrrid}: a path with an index, likewise from there;
//   - {$..CustomerData.tags[?(@ =~ /Paris:.*/)]}: JsonPath on the whole
//     document, as RFC 9535 has it, with Jayway's =~ (the whole text must
//     match); of several results the first is taken;
//   - {CustomerData.name|DevEUI|'None'}: the first alternative that resolves;
//     what stands in quotes is a literal.
//
// A value is a text, a number (with the literal it has in the document), true
// or false, or the first element of an array. Nothing else, and no empty text,
// resolves.
//
// A value is always exactly one level of a topic: '/', '+', '#', control
// characters and what is no character at all become '_', and so does a '$'
// that would start the topic. So a device's name cannot add a level, widen a
// subscription or reach a reserved topic.
//
// Source: ThingPark X IoT Flow documentation, "About connections", and its
// release notes 1.7.10 (fallback) and 1.7.14 (special characters). What the
// documentation leaves open ('/', arrays) is decided above.
package pattern

import (
	"fmt"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Pattern is a compiled pattern. It is immutable and safe for use by several
// goroutines.
type Pattern struct {
	text   string
	parts  []part
	levels []level
	filter string
	static Static
}

// part is a piece of text, or an expression where expr is not nil.
type part struct {
	text string
	expr *expression
}

// Static is what is known of every topic that a pattern makes.
type Static struct {
	// Slashes is how many '/' the topic has: values never add any.
	Slashes int
	// MinBytes is the least length of the topic in bytes: a value has one
	// byte or more.
	MinBytes int
	// Expressions is how many expressions the pattern has.
	Expressions int
	// Wildcards are the '+' and '#' outside of expressions, each once, in the
	// order of the text.
	Wildcards string
}

// SyntaxError tells where and why a pattern does not compile.
type SyntaxError struct {
	// Position counts characters from 1.
	Position int
	// Message is a sentence for the user.
	Message string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("character %d: %s", e.Position, e.Message)
}

// UnresolvedError tells that a document has no value for an expression.
type UnresolvedError struct {
	// Expression is the expression with its braces.
	Expression string
}

func (e *UnresolvedError) Error() string {
	return e.Expression + " has no value in the document"
}

// Compile reads a pattern. The error is a *[SyntaxError], the first one that
// there is.
func Compile(text string) (*Pattern, error) {
	p, faults := parse(text)
	if len(faults) > 0 {
		return nil, faults[0]
	}
	p.levels = splitLevels(p.parts)
	p.filter = joinFilter(p.levels)
	return p, nil
}

// Faults returns all that is wrong with a pattern, as errors of type
// *[SyntaxError], and what is known of the rest of it.
func Faults(text string) (Static, []error) {
	p, faults := parse(text)
	return p.static, faults
}

// parse reads the parts of a pattern. Behind a fault it goes on where the next
// thing may begin; an expression that cannot be read stands for any.
func parse(text string) (p *Pattern, faults []error) {
	p = &Pattern{text: text}
	if err := checkText(text); err != nil {
		return p, []error{err}
	}
	for i := 0; i < len(text); {
		switch text[i] {
		case '{':
			e, end, err := parseExpression(text, i)
			if err != nil {
				faults = append(faults, err)
				e, end = &expression{}, skipExpression(text, i)
			}
			p.parts = append(p.parts, part{text: text[i:end], expr: e})
			i = end
		case '}':
			faults = append(faults, syntaxError(text, i, "'}' without a '{' before it"))
			i++
		default:
			end := len(text)
			if n := strings.IndexAny(text[i:], "{}"); n >= 0 {
				end = i + n
			}
			p.parts = append(p.parts, part{text: text[i:end]})
			i = end
		}
	}
	p.measure()
	return p, faults
}

// skipExpression returns where the expression at start, which cannot be read,
// may end.
func skipExpression(text string, start int) int {
	if n := strings.IndexByte(text[start:], '}'); n >= 0 {
		return start + n + 1
	}
	if n := strings.IndexByte(text[start:], '/'); n >= 0 {
		return start + n
	}
	return len(text)
}

// checkText refuses what no topic may hold anywhere.
func checkText(text string) error {
	for i, r := range text {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(text[i:]); n == 1 {
				return syntaxError(text, i, "the text is not valid UTF-8")
			}
		}
		if isControl(r) {
			return syntaxError(text, i, "control characters are not allowed")
		}
	}
	return nil
}

func syntaxError(text string, offset int, format string, args ...any) *SyntaxError {
	return &SyntaxError{
		Position: utf8.RuneCountInString(text[:offset]) + 1,
		Message:  fmt.Sprintf(format, args...),
	}
}

func (p *Pattern) measure() {
	for _, part := range p.parts {
		if part.expr != nil {
			p.static.Expressions++
			p.static.MinBytes++
			continue
		}
		p.static.Slashes += strings.Count(part.text, "/")
		p.static.MinBytes += len(part.text)
		for _, c := range part.text {
			if (c == '+' || c == '#') && !strings.ContainsRune(p.static.Wildcards, c) {
				p.static.Wildcards += string(c)
			}
		}
	}
}

// String is the pattern's text.
func (p *Pattern) String() string { return p.text }

// Text is what the pattern holds besides its expressions, with something in
// the place of each.
func (p *Pattern) Text(expression string) string {
	var b strings.Builder
	for _, part := range p.parts {
		if part.expr != nil {
			b.WriteString(expression)
		} else {
			b.WriteString(part.text)
		}
	}
	return b.String()
}

// Static tells what is known of every topic that the pattern makes.
func (p *Pattern) Static() Static { return p.static }

// Filter is the subscription for all topics of the pattern: each level that
// holds an expression is '+', also one that holds text besides it.
func (p *Pattern) Filter() string { return p.filter }

// Fill is the pattern with a value in the place of each expression, as it
// stands: "*" for a policy of all its topics.
func (p *Pattern) Fill(value string) string {
	return p.Map(value, func(text string) string { return text })
}

// Map is Fill with the text between the expressions changed.
func (p *Pattern) Map(value string, change func(text string) string) string {
	var b strings.Builder
	for i := range p.parts {
		if p.parts[i].expr != nil {
			b.WriteString(value)
		} else {
			b.WriteString(change(p.parts[i].text))
		}
	}
	return b.String()
}

// Resolve makes the topic of a document, which must be valid JSON; root is
// the key of its root node ("DevEUI_uplink"), "" when fields are to be looked
// up in the document itself. devEUI, where it is not "", is the field DevEUI,
// however the document writes it: a device has one topic, and an LrrID stands in
// for it in a base station's alarm. The error is a *[UnresolvedError]. The
// document is only read, and the result does not refer to it.
func (p *Pattern) Resolve(doc []byte, root, devEUI string) (string, error) {
	b, err := p.Append(make([]byte, 0, len(p.text)+32), doc, root, devEUI)
	if err != nil {
		return "", err
	}
	return unsafe.String(unsafe.SliceData(b), len(b)), nil // b is ours and not changed any more
}

// Append is Resolve onto the end of dst.
func (p *Pattern) Append(dst, doc []byte, root, devEUI string) ([]byte, error) {
	start := len(dst)
	d := document{text: unsafe.String(unsafe.SliceData(doc), len(doc)), root: root, devEUI: devEUI}
	for i := range p.parts {
		part := &p.parts[i]
		if part.expr == nil {
			dst = append(dst, part.text...)
			continue
		}
		value, ok := part.expr.resolve(&d)
		if !ok {
			return nil, &UnresolvedError{Expression: part.text}
		}
		n := len(dst)
		dst = appendLevel(dst, value)
		if n == start && dst[n] == '$' {
			dst[n] = '_'
		}
	}
	return dst, nil
}

// appendLevel appends a value as (part of) one level of a topic.
func appendLevel(dst []byte, value string) []byte {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '/' || c == '+' || c == '#' {
			return appendSafe(dst, value)
		}
	}
	return append(dst, value...)
}

func appendSafe(dst []byte, value string) []byte {
	for i, r := range value {
		switch {
		case r == '/', r == '+', r == '#', isControl(r), isNoCharacter(r):
			dst = append(dst, '_')
		case r == utf8.RuneError && !strings.HasPrefix(value[i:], "\uFFFD"):
			dst = append(dst, '_')
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

// isControl reports U+0000 and the control characters, which MQTT lets a
// server refuse. Source: MQTT 5.0, section 1.5.4.
func isControl(r rune) bool { return r < ' ' || r >= 0x7F && r <= 0x9F }

// isNoCharacter reports Unicode's noncharacters, of which the same is true.
func isNoCharacter(r rune) bool {
	return r&0xFFFE == 0xFFFE || r >= 0xFDD0 && r <= 0xFDEF
}
