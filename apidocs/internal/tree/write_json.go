package tree

import "unicode/utf8"

// Writer writes JSON without white space. Its methods are called in the order of
// the text; commas and colons are put in by it.
type Writer struct {
	buffer []byte
	// comma: a value that follows needs a comma in front of it.
	comma bool
}

// NewWriter returns a writer with room for a text of the size.
func NewWriter(size int) *Writer { return &Writer{buffer: make([]byte, 0, size)} }

// Bytes returns what was written.
func (w *Writer) Bytes() []byte { return w.buffer }

// Len returns the number of bytes that were written.
func (w *Writer) Len() int { return len(w.buffer) }

// Mark is a place in what was written.
type Mark struct {
	length int
	comma  bool
}

// Mark returns the place of the end.
func (w *Writer) Mark() Mark { return Mark{len(w.buffer), w.comma} }

// Back takes back what was written behind a place. The zero Mark is the beginning.
func (w *Writer) Back(to Mark) { w.buffer, w.comma = w.buffer[:to.length], to.comma }

func (w *Writer) before() {
	if w.comma {
		w.buffer = append(w.buffer, ',')
	}
	w.comma = true
}

// Begin begins an object or array: '{' or '['.
func (w *Writer) Begin(c byte) {
	w.before()
	w.buffer = append(w.buffer, c)
	w.comma = false
}

// Open begins an object or array that is the value of a member.
func (w *Writer) Open(member string, c byte) {
	w.Name(member)
	w.Begin(c)
}

// End ends an object or array: '}' or ']'.
func (w *Writer) End(c byte) {
	w.buffer = append(w.buffer, c)
	w.comma = true
}

// Name writes the name of a member. Its value follows.
func (w *Writer) Name(text string) {
	w.before()
	w.buffer = append(AppendString(w.buffer, text), ':')
	w.comma = false
}

// Text writes a string.
func (w *Writer) Text(text string) {
	w.before()
	w.buffer = AppendString(w.buffer, text)
}

// Raw writes a value that is JSON already.
func (w *Writer) Raw(text []byte) {
	w.before()
	w.buffer = append(w.buffer, text...)
}

// Value writes a value of a tree as it is, without white space and without members
// that are there again.
func (w *Writer) Value(v Value) {
	switch v.Kind() {
	case Missing:
		w.Raw([]byte("null"))
	case Object:
		w.Begin('{')
		for i, value := range v.members() {
			w.rawName(v.tree, i)
			w.Value(value)
		}
		w.End('}')
	case Array:
		w.Begin('[')
		for item := range v.Items() {
			w.Value(item)
		}
		w.End(']')
	default:
		w.Raw(v.Raw())
	}
}

// rawName writes a name as it is spelled in the tree.
func (w *Writer) rawName(t *Tree, index uint32) {
	n := &t.nodes[index]
	w.before()
	w.buffer = append(append(w.buffer, t.source[n.start:n.end]...), ':')
	w.comma = false
}

// Member writes a name and a string.
func (w *Writer) Member(member, text string) {
	w.Name(member)
	w.Text(text)
}

// isSpecial reports whether a character may only be written as an escape: YAML does
// not accept the others, and U+2028 and U+2029 end a line for some readers.
func isSpecial(r rune) bool {
	return r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffe || r == 0xffff
}

// AppendString appends the text as a string that is one in JSON and, in quotes, in
// YAML.
func AppendString(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(text[i:])
			if isSpecial(r) {
				b = append(b, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			} else {
				b = utf8.AppendRune(b, r) // U+FFFD where it is not UTF-8
			}
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}
