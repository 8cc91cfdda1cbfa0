// Package tree reads JSON and YAML documents of untrusted origin into a compact
// tree, in the order of their members, and writes them again.
//
// A node takes 16 bytes beside the text that it stands for, so that the tree of a
// document is about as large as the document. Scalars keep their spelling: a
// number has the digits that it was written with.
package tree

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strings"
)

// Kind is the type of a value.
type Kind uint8

// The kinds of values. Missing is that of a value that is not there.
const (
	Missing Kind = iota
	Null
	False
	True
	Number
	String
	Array
	Object
)

// name is the kind of a member's name, and hidden that of a name which stands in
// the same object again, behind.
const (
	name Kind = iota + 16
	hidden
)

// node is one value, or the name of a member. The nodes of a document are in the
// order of its text: an array's items follow it, and an object's names and values
// by turns.
type node struct {
	start, end uint32 // the text: with its quotes, braces or brackets
	after      uint32 // the node behind this one and all that is in it
	kind       Kind
	escaped    bool // the string has escapes
}

// Tree is a document.
type Tree struct {
	source []byte
	nodes  []node

	// Repeated are the names that stand more than once in one object, at most
	// maxRepeated of them. The last member of a name counts.
	Repeated []string
}

// Value is a value in a tree. The zero Value is Missing.
type Value struct {
	tree  *Tree
	index uint32
}

// Root returns the value that the document is.
func (t *Tree) Root() Value { return Value{t, 0} }

// Len returns the number of nodes.
func (t *Tree) Len() int { return len(t.nodes) }

func (v Value) node() *node { return &v.tree.nodes[v.index] }

// ID is the same for the same value of one tree, and for no other.
func (v Value) ID() uint32 { return v.index }

// Size returns the number of nodes that the value is made of.
func (v Value) Size() int {
	if v.tree == nil {
		return 0
	}
	return int(v.node().after - v.index)
}

// Kind returns the kind of the value.
func (v Value) Kind() Kind {
	if v.tree == nil {
		return Missing
	}
	return v.node().kind
}

// Exists reports whether there is a value.
func (v Value) Exists() bool { return v.tree != nil }

// Is reports whether the value is of the kind.
func (v Value) Is(k Kind) bool { return v.Kind() == k }

// Raw returns the text of the value as JSON. It must not be changed.
func (v Value) Raw() []byte {
	if v.tree == nil {
		return nil
	}
	n := v.node()
	return v.tree.source[n.start:n.end]
}

// Text returns what a string says, and nothing for other kinds.
func (v Value) Text() string {
	if v.Kind() != String {
		return ""
	}
	return v.tree.text(v.index)
}

func (t *Tree) text(index uint32) string {
	n := &t.nodes[index]
	if !n.escaped {
		return string(t.source[n.start+1 : n.end-1])
	}
	var text string
	_ = json.Unmarshal(t.source[n.start:n.end], &text) // it was read as JSON before
	return text
}

// Get returns the member of an object with the name.
func (v Value) Get(member string) Value {
	for key, value := range v.members() {
		if v.tree.named(key, member) {
			return value
		}
	}
	return Value{}
}

// named reports whether the name at the index is the text.
func (t *Tree) named(index uint32, text string) bool {
	n := &t.nodes[index]
	if n.escaped {
		return t.text(index) == text
	}
	return string(t.source[n.start+1:n.end-1]) == text
}

// members returns the names and the values of an object.
func (v Value) members() iter.Seq2[uint32, Value] {
	return func(yield func(uint32, Value) bool) {
		if v.Kind() != Object {
			return
		}
		for i, end := v.index+1, v.node().after; i < end; i = v.tree.nodes[i+1].after {
			if v.tree.nodes[i].kind == name && !yield(i, Value{v.tree, i + 1}) {
				return
			}
		}
	}
}

// Members returns the names and the values of an object, in their order.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for i, value := range v.members() {
			if !yield(v.tree.text(i), value) {
				return
			}
		}
	}
}

// Items returns the items of an array.
func (v Value) Items() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != Array {
			return
		}
		for i, end := v.index+1, v.node().after; i < end; i = v.tree.nodes[i].after {
			if !yield(Value{v.tree, i}) {
				return
			}
		}
	}
}

// Empty reports whether the value has no members and no items.
func (v Value) Empty() bool {
	for range v.members() {
		return false
	}
	for range v.Items() {
		return false
	}
	return true
}

// Pointer returns the value that a JSON pointer (RFC 6901), without the leading #,
// leads to from here.
func (v Value) Pointer(pointer string) Value {
	steps := math.MaxInt
	return v.Find(pointer, &steps)
}

// Find is Pointer with a bound: it takes from steps the number of members and items
// that it passes, and finds nothing once there are none left.
func (v Value) Find(pointer string, steps *int) Value {
	if pointer == "" {
		return v
	}
	rest, ok := strings.CutPrefix(pointer, "/")
	if !ok {
		return Value{}
	}
	for ok && v.Exists() {
		var token string
		token, rest, ok = strings.Cut(rest, "/")
		v = v.step(Unescape(token), steps)
	}
	return v
}

func (v Value) step(token string, steps *int) Value {
	for key, value := range v.members() {
		if *steps--; *steps < 0 || v.tree.named(key, token) {
			return value.within(*steps)
		}
	}
	n, ok := arrayIndex(token)
	if !ok {
		return Value{}
	}
	for item := range v.Items() {
		if *steps--; *steps < 0 || n == 0 {
			return item.within(*steps)
		}
		n--
	}
	return Value{}
}

// within returns the value, unless there are no steps left.
func (v Value) within(steps int) Value {
	if steps < 0 {
		return Value{}
	}
	return v
}

// arrayIndex reads the token of a pointer that is the index of an item.
func arrayIndex(token string) (n int, ok bool) {
	if token == "" || len(token) > 9 || token[0] == '0' && token != "0" {
		return 0, false
	}
	for _, c := range []byte(token) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

var (
	unescapeToken = strings.NewReplacer("~1", "/", "~0", "~")
	escapeToken   = strings.NewReplacer("~", "~0", "/", "~1")
)

// Unescape returns the name that a token of a JSON pointer stands for.
func Unescape(token string) string { return unescapeToken.Replace(token) }

// Escape returns the token of a JSON pointer for a name.
func Escape(member string) string { return escapeToken.Replace(member) }

// Repeated returns the names that stand more than once in one object of the
// document: see Tree.
func (v Value) Repeated() []string {
	if v.tree == nil {
		return nil
	}
	return v.tree.Repeated
}

// space is the white space of JSON.
const space = " \t\r\n"

// Parse reads a document that is JSON or YAML: JSON if it begins as an object
// of JSON does, and YAML otherwise.
func Parse(text []byte, limits Limits) (*Tree, error) {
	start := bytes.TrimLeft(bytes.TrimPrefix(text, byteOrderMark), space)
	if len(start) > 0 && start[0] == '{' {
		t, err := ParseJSON(text, limits)
		if err == nil {
			return t, nil
		}
		// A mapping of YAML may begin with a brace too, but rarely in this way.
		if next := bytes.TrimLeft(start[1:], space); len(next) == 0 || next[0] == '"' {
			return nil, fmt.Errorf("JSON: %w", err)
		}
	}
	converted, err := YAMLToJSON(text, limits)
	if err != nil {
		return nil, fmt.Errorf("YAML: %w", err)
	}
	return ParseJSON(converted, limits)
}
