package token

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds nested values in a header or payload.
const maxDepth = 32

var (
	errNotObject = errors.New("not a JSON object")
	errDuplicate = errors.New("duplicate name in an object")
	errSyntax    = errors.New("not valid JSON")
	errUTF8      = errors.New("not valid UTF-8")
	errDepth     = errors.New("nested too deeply")
	errMembers   = errors.New("too many members")
)

// DecodeObject decodes a JSON object into what encoding/json would make of it,
// in one pass, and refuses what parsers read differently: a duplicate name in one
// object at any depth, invalid UTF-8, half a surrogate pair, a
// number beyond all float64, text behind the object (RFC 7515 §4, RFC 7519
// §7.2, RFC 8725 §2.6, RFC 7493 §2.1). A number keeps its digits: it is a
// float64 only if that is written in the same way, and else a json.Number. The
// result shares the memory of text.
func DecodeObject(text string) (map[string]any, error) {
	m, _, err := decodeObject(text)
	return m, err
}

// decodeObject also returns how many values the object consists of.
func decodeObject(text string) (m map[string]any, values int, err error) {
	if !utf8.ValidString(text) {
		return nil, 0, errUTF8
	}
	d := decoder{text: text}
	d.space()
	if d.peek() != '{' {
		return nil, 0, errNotObject
	}
	if m, err = d.object(0); err != nil {
		return nil, 0, err
	}
	d.space()
	if d.at != len(text) {
		return nil, 0, errSyntax
	}
	return m, d.values, nil
}

// visitMembers is DecodeObject for an object that is read only once: it calls visit
// for each member, and keeps none. The members count only if it returns no error.
func visitMembers(text string, visit func(name string, value any)) error {
	if !utf8.ValidString(text) {
		return errUTF8
	}
	d := decoder{text: text}
	d.space()
	if d.peek() != '{' {
		return errNotObject
	}
	var few [32]string
	names := few[:0]
	err := d.members(0, func(name string, value any) error {
		if len(names) == cap(names) {
			return errMembers
		}
		if slices.Contains(names, name) {
			return errDuplicate
		}
		names = append(names, name)
		visit(name, value)
		return nil
	})
	if err != nil {
		return err
	}
	d.space()
	if d.at != len(text) {
		return errSyntax
	}
	return nil
}

// decoder reads JSON (RFC 8259) once, from left to right.
type decoder struct {
	text   string
	at     int
	values int
}

// peek returns the next byte, and at the end 0, which JSON never has outside of a
// string.
func (d *decoder) peek() byte {
	if d.at < len(d.text) {
		return d.text[d.at]
	}
	return 0
}

func (d *decoder) space() {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\t', '\r', '\n':
			d.at++
		default:
			return
		}
	}
}

func (d *decoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	d.values++
	switch c := d.peek(); c {
	case '"':
		return d.string()
	case '{':
		return d.object(depth)
	case '[':
		return d.array(depth)
	case 't':
		return true, d.literal("true")
	case 'f':
		return false, d.literal("false")
	case 'n':
		return nil, d.literal("null")
	default:
		return d.number()
	}
}

func (d *decoder) literal(word string) error {
	if !strings.HasPrefix(d.text[d.at:], word) {
		return errSyntax
	}
	d.at += len(word)
	return nil
}

func (d *decoder) object(depth int) (map[string]any, error) {
	// Most payloads have more than the 8 members that the smallest map holds.
	size := 0
	if depth == 0 && len(d.text)-d.at > 200 {
		size = 16
	}
	m := make(map[string]any, size)
	err := d.members(depth, func(name string, value any) error {
		// A name that is new makes the map grow.
		before := len(m)
		m[name] = value
		if len(m) == before {
			return errDuplicate
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// members reads an object and calls take for each member.
func (d *decoder) members(depth int, take func(name string, value any) error) error {
	d.at++ // {
	d.space()
	if d.peek() == '}' {
		d.at++
		return nil
	}
	for {
		name, err := d.string()
		if err != nil {
			return err
		}
		d.space()
		if d.peek() != ':' {
			return errSyntax
		}
		d.at++
		d.space()
		value, err := d.value(depth + 1)
		if err != nil {
			return err
		}
		if err := take(name, value); err != nil {
			return err
		}
		d.space()
		switch d.peek() {
		case ',':
			d.at++
			d.space()
		case '}':
			d.at++
			return nil
		default:
			return errSyntax
		}
	}
}

func (d *decoder) array(depth int) ([]any, error) {
	d.at++ // [
	list := []any{}
	d.space()
	if d.peek() == ']' {
		d.at++
		return list, nil
	}
	for {
		value, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
		d.space()
		switch d.peek() {
		case ',':
			d.at++
			d.space()
		case ']':
			d.at++
			return list, nil
		default:
			return nil, errSyntax
		}
	}
}

// string reads a text with its escapes resolved, so that `"\u0073ub"` is seen
// to be `"sub"`.
func (d *decoder) string() (string, error) {
	if d.peek() != '"' {
		return "", errSyntax
	}
	d.at++
	rest := d.text[d.at:]
	for i := range len(rest) {
		switch c := rest[i]; {
		case c == '"':
			d.at += i + 1
			return rest[:i], nil
		case c == '\\':
			return d.escaped(i)
		case c < 0x20:
			return "", errSyntax
		}
	}
	return "", errSyntax
}

// escaped reads a string whose first escape is n bytes ahead.
func (d *decoder) escaped(n int) (string, error) {
	out := make([]byte, 0, n+64)
	out = append(out, d.text[d.at:d.at+n]...)
	d.at += n
	for d.at < len(d.text) {
		c := d.text[d.at]
		d.at++
		switch {
		case c == '"':
			return string(out), nil
		case c < 0x20:
			return "", errSyntax
		case c != '\\':
			out = append(out, c)
			continue
		}
		c = d.peek()
		d.at++
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, err := d.unicode()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", errSyntax
		}
	}
	return "", errSyntax
}

// unicode reads what follows `\u`. Half a surrogate pair names no character:
// two such texts that differ would be read as one.
func (d *decoder) unicode() (rune, error) {
	r, ok := d.hex()
	if !ok {
		return 0, errSyntax
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if !strings.HasPrefix(d.text[d.at:], `\u`) {
		return 0, errUTF8
	}
	d.at += 2
	low, ok := d.hex()
	if !ok {
		return 0, errSyntax
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, errUTF8
	}
	return r, nil
}

func (d *decoder) hex() (rune, bool) {
	if len(d.text)-d.at < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(d.text[d.at : d.at+4]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	d.at += 4
	return r, true
}
