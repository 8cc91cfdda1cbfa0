package tree

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Limits bound what a document may have.
type Limits struct {
	// Bytes of the text.
	Bytes int
	// Depth of arrays and objects in one another.
	Depth int
	// Nodes: values and names of members.
	Nodes int
	// Digits of one number.
	Digits int
}

// Standard are the limits of documents from services: 16 MiB, 200 levels, 3
// million values and names, and 400 characters in a number, which is more than any
// 64-bit number needs.
func Standard() Limits { return Limits{Bytes: 16 << 20, Depth: 200, Nodes: 3_000_000, Digits: 400} }

// maxRepeated is how many names are kept that an object has more than once.
const maxRepeated = 10

// byteOrderMark may stand in front of a text in UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// ParseJSON reads a document in JSON (RFC 8259). Bytes that are not UTF-8 become
// U+FFFD. The tree keeps the text, which must not be changed.
func ParseJSON(text []byte, limits Limits) (*Tree, error) {
	if len(text) > limits.Bytes {
		return nil, fmt.Errorf("longer than %d bytes", limits.Bytes)
	}
	text = bytes.TrimPrefix(text, byteOrderMark)
	if !utf8.Valid(text) {
		text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
	}
	p := &parser{text: text, limits: limits, tree: &Tree{source: text}}
	p.tree.nodes = make([]node, 0, min(len(text)/16+1, limits.Nodes))
	p.space()
	if err := p.value(0); err != nil {
		return nil, err
	}
	p.space()
	if p.at < len(p.text) {
		return nil, p.fail("unexpected text behind the document")
	}
	return p.tree, nil
}

// parser reads JSON from a text.
type parser struct {
	text   []byte
	at     int
	limits Limits
	tree   *Tree
	names  map[string]uint32 // of one object
}

// fail is an error at the current place.
func (p *parser) fail(format string, args ...any) error {
	line := 1 + bytes.Count(p.text[:p.at], []byte("\n"))
	column := p.at - bytes.LastIndexByte(p.text[:p.at], '\n')
	return fmt.Errorf("line %d, column %d: %s", line, column, fmt.Sprintf(format, args...))
}

// found says what stands at the current place.
func (p *parser) found() string {
	if p.at >= len(p.text) {
		return "the end of the document"
	}
	r, _ := utf8.DecodeRune(p.text[p.at:])
	return fmt.Sprintf("%q", r)
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// add appends a node that begins here and returns its index.
func (p *parser) add(k Kind) (uint32, error) {
	if len(p.tree.nodes) >= p.limits.Nodes {
		return 0, p.fail("more than %d values and names", p.limits.Nodes)
	}
	p.tree.nodes = append(p.tree.nodes, node{start: uint32(p.at), kind: k})
	return uint32(len(p.tree.nodes) - 1), nil
}

// end closes the node at the index.
func (p *parser) end(index uint32) {
	n := &p.tree.nodes[index]
	n.end, n.after = uint32(p.at), uint32(len(p.tree.nodes))
}

// value reads one value.
func (p *parser) value(depth int) error {
	if p.at >= len(p.text) {
		return p.fail("a value is missing at %s", p.found())
	}
	switch c := p.text[p.at]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.str(String)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == 't':
		return p.word("true", True)
	case c == 'f':
		return p.word("false", False)
	case c == 'n':
		return p.word("null", Null)
	}
	return p.fail("a value is missing at %s", p.found())
}

func (p *parser) word(text string, k Kind) error {
	if !bytes.HasPrefix(p.text[p.at:], []byte(text)) {
		return p.fail("a value is missing at %s", p.found())
	}
	index, err := p.add(k)
	if err != nil {
		return err
	}
	p.at += len(text)
	p.end(index)
	return nil
}

// open begins an array or object.
func (p *parser) open(k Kind, depth int) (uint32, error) {
	if depth >= p.limits.Depth {
		return 0, p.fail("more than %d arrays and objects in one another", p.limits.Depth)
	}
	index, err := p.add(k)
	p.at++
	p.space()
	return index, err
}

// next reads what stands behind an item or a member, and reports whether there
// is another one.
func (p *parser) next(closing byte) (bool, error) {
	p.space()
	if p.at >= len(p.text) || p.text[p.at] != ',' && p.text[p.at] != closing {
		return false, p.fail("expected a comma or %q, found %s", closing, p.found())
	}
	more := p.text[p.at] == ','
	p.at++
	if more {
		p.space()
	}
	return more, nil
}

func (p *parser) array(depth int) error {
	index, err := p.open(Array, depth)
	if err != nil {
		return err
	}
	more := p.at >= len(p.text) || p.text[p.at] != ']'
	if !more {
		p.at++
	}
	for more {
		if err = p.value(depth + 1); err != nil {
			return err
		}
		if more, err = p.next(']'); err != nil {
			return err
		}
	}
	p.end(index)
	return nil
}

func (p *parser) object(depth int) error {
	index, err := p.open(Object, depth)
	if err != nil {
		return err
	}
	more := p.at >= len(p.text) || p.text[p.at] != '}'
	if !more {
		p.at++
	}
	for more {
		if p.at >= len(p.text) || p.text[p.at] != '"' {
			return p.fail("expected the name of a member, found %s", p.found())
		}
		if err = p.str(name); err != nil {
			return err
		}
		p.space()
		if p.at >= len(p.text) || p.text[p.at] != ':' {
			return p.fail("expected a colon, found %s", p.found())
		}
		p.at++
		p.space()
		if err = p.value(depth + 1); err != nil {
			return err
		}
		if more, err = p.next('}'); err != nil {
			return err
		}
	}
	p.end(index)
	p.repeated(index)
	return nil
}

// repeated hides members of an object whose name stands in it again, behind, as
// the readers of browsers and of Go do.
func (p *parser) repeated(index uint32) {
	t := p.tree
	const few = 8
	var first [few]uint32
	n := 0
	end := t.nodes[index].after
	for i := index + 1; i < end; i = t.nodes[i+1].after {
		if n == few {
			p.repeatedOfMany(index)
			return
		}
		for j := range n {
			if earlier := first[j]; t.nodes[earlier].kind == name && t.sameName(earlier, i) {
				t.hide(earlier)
			}
		}
		first[n] = i
		n++
	}
}

// repeatedOfMany is repeated for objects with many members.
func (p *parser) repeatedOfMany(index uint32) {
	t := p.tree
	if p.names == nil {
		p.names = make(map[string]uint32)
	}
	clear(p.names)
	end := t.nodes[index].after
	for i := index + 1; i < end; i = t.nodes[i+1].after {
		text := t.text(i)
		if earlier, ok := p.names[text]; ok && t.nodes[earlier].kind == name {
			t.hide(earlier)
		}
		p.names[text] = i
	}
}

func (t *Tree) sameName(a, b uint32) bool {
	x, y := &t.nodes[a], &t.nodes[b]
	if x.escaped || y.escaped {
		return t.text(a) == t.text(b)
	}
	return bytes.Equal(t.source[x.start:x.end], t.source[y.start:y.end])
}

func (t *Tree) hide(index uint32) {
	t.nodes[index].kind = hidden
	if len(t.Repeated) < maxRepeated {
		t.Repeated = append(t.Repeated, t.text(index))
	}
}

// str reads a string.
func (p *parser) str(k Kind) error {
	index, err := p.add(k)
	if err != nil {
		return err
	}
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			p.end(index)
			return nil
		case c == '\\':
			p.tree.nodes[index].escaped = true
			if err := p.escape(); err != nil {
				return err
			}
		case c < ' ':
			return p.fail("control character %q in a string", c)
		}
	}
	return p.fail("the string does not end")
}

// escape reads an escape up to its last character.
func (p *parser) escape() error {
	p.at++
	if p.at >= len(p.text) {
		return p.fail("the string does not end")
	}
	switch p.text[p.at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			if p.at++; p.at >= len(p.text) || !isHex(p.text[p.at]) {
				return p.fail("expected four hexadecimal digits behind \\u")
			}
		}
		return nil
	}
	return p.fail("unknown escape %s", p.found())
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// number reads a number (RFC 8259 §6).
func (p *parser) number() error {
	index, err := p.add(Number)
	if err != nil {
		return err
	}
	n := numberLength(p.text[p.at:])
	switch {
	case n == 0:
		return p.fail("bad number")
	case n > p.limits.Digits:
		return p.fail("a number of more than %d characters", p.limits.Digits)
	}
	p.at += n
	p.end(index)
	return nil
}

// numberLength returns the length of the number that the text begins with, or 0.
func numberLength(text []byte) int {
	digits := func(i int) int {
		for i < len(text) && text[i] >= '0' && text[i] <= '9' {
			i++
		}
		return i
	}
	i := 0
	if i < len(text) && text[i] == '-' {
		i++
	}
	begin := i
	if i = digits(i); i == begin || text[begin] == '0' && i > begin+1 {
		return 0
	}
	if i < len(text) && text[i] == '.' {
		begin = i + 1
		if i = digits(begin); i == begin {
			return 0
		}
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		begin = i
		if i = digits(begin); i == begin {
			return 0
		}
	}
	return i
}
