package tree

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// AppendYAML appends the value as YAML 1.2, in block style.
func AppendYAML(b []byte, v Value) []byte {
	y := yamlWriter{b: b}
	if v.Empty() {
		y.scalar(v)
		y.b = append(y.b, '\n')
		return y.b
	}
	y.block(v, 0, false)
	return y.b
}

// yamlWriter writes YAML.
type yamlWriter struct{ b []byte }

// block writes the lines of an object or array that is not empty. inline is true if
// the first line is begun already, by the dash of a list.
func (y *yamlWriter) block(v Value, indent int, inline bool) {
	if v.Is(Object) {
		for i, value := range v.members() {
			y.indent(indent, &inline)
			y.key(v.tree.text(i), indent)
			y.value(value, indent+1)
		}
		return
	}
	for item := range v.Items() {
		y.indent(indent, &inline)
		y.b = append(y.b, '-')
		if (item.Is(Object) || item.Is(Array)) && !item.Empty() {
			y.b = append(y.b, ' ')
			y.block(item, indent+1, true)
			continue
		}
		y.value(item, indent+1)
	}
}

// maxSimpleKey is the length up to which a key may stand in front of its colon; the
// limit of YAML is 1024 characters.
const maxSimpleKey = 500

func (y *yamlWriter) key(text string, indent int) {
	explicit := len(text) > maxSimpleKey
	if explicit {
		y.b = append(y.b, '?', ' ')
	}
	y.string(text)
	if explicit {
		y.b = append(y.b, '\n')
		y.indent(indent, new(bool))
	}
	y.b = append(y.b, ':')
}

func (y *yamlWriter) indent(n int, inline *bool) {
	if *inline {
		*inline = false
		return
	}
	for range n {
		y.b = append(y.b, ' ', ' ')
	}
}

// value writes what stands behind the colon or the dash, and ends the line.
func (y *yamlWriter) value(v Value, indent int) {
	if (v.Is(Object) || v.Is(Array)) && !v.Empty() {
		y.b = append(y.b, '\n')
		y.block(v, indent, false)
		return
	}
	y.b = append(y.b, ' ')
	if text := v.Text(); fitsLiteral(text) {
		y.literal(text, indent)
		return
	}
	y.scalar(v)
	y.b = append(y.b, '\n')
}

func (y *yamlWriter) scalar(v Value) {
	switch v.Kind() {
	case Object:
		y.b = append(y.b, "{}"...)
	case Array:
		y.b = append(y.b, "[]"...)
	case String:
		y.string(v.Text())
	default:
		y.b = append(y.b, v.Raw()...)
	}
}

// string writes a text without quotes where every reader of YAML takes it for the
// same text, and else as JSON does.
func (y *yamlWriter) string(text string) {
	if isPlain(text) {
		y.b = append(y.b, text...)
		return
	}
	y.b = AppendString(y.b, text)
}

// isPlain accepts what begins with a letter or a slash and has nothing in it that
// YAML may give a meaning to.
func isPlain(text string) bool {
	if text == "" || len(text) > 120 {
		return false
	}
	if c := text[0]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '/') {
		return false
	}
	for i := range len(text) {
		c := text[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte("/-_.() {}$+;=", c) < 0 || c == ' ' && (i+1 == len(text) || text[i+1] == ' ') {
			return false
		}
	}
	switch strings.ToLower(text) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return false
	}
	return true
}

// fitsLiteral accepts a text of several lines that a literal block keeps as it is.
func fitsLiteral(text string) bool {
	if !strings.Contains(text, "\n") || text[0] == ' ' || text[0] == '\n' || text[0] == '\t' || strings.HasSuffix(text, "\n\n") {
		return false
	}
	for _, r := range text {
		if r < ' ' && r != '\n' || r == 0x7f || isSpecial(r) || r == utf8.RuneError {
			return false
		}
	}
	return strings.TrimSpace(text) != ""
}

func (y *yamlWriter) literal(text string, indent int) {
	y.b = append(y.b, '|')
	body, ended := strings.CutSuffix(text, "\n")
	if !ended {
		y.b = append(y.b, '-')
	}
	y.b = append(y.b, '\n')
	for line := range strings.SplitSeq(body, "\n") {
		if line != "" {
			y.b = append(y.b, bytes.Repeat([]byte("  "), indent)...)
			y.b = append(y.b, line...)
		}
		y.b = append(y.b, '\n')
	}
}
