package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// maxSeconds is what a larger number of seconds counts as (RFC 9111 §1.2.2).
const maxSeconds = 1 << 31

// Directive is one member of a Cache-Control field (RFC 9111 §5.2).
type Directive struct {
	// Name is in lower case.
	Name string
	// Value is the argument without its quotes; Given tells `no-cache` from
	// `no-cache=""`.
	Value string
	Given bool
	// Bad is set if the argument is not in the form of the grammar.
	Bad bool
}

// Directives are the members of all Cache-Control fields of a message, in
// their order.
type Directives []Directive

// ParseCacheControl reads the Cache-Control fields of a message. A member
// without a proper name is left out and does not spoil the others.
func ParseCacheControl(h http.Header) Directives {
	return parseDirectives(h["Cache-Control"])
}

func parseDirectives(values []string) Directives {
	if len(values) == 0 {
		return nil
	}
	d := make(Directives, 0, 4)
	for _, value := range values {
		for value != "" {
			var item string
			item, value = cutItem(value)
			if one, ok := parseDirective(item); ok {
				d = append(d, one)
			}
		}
	}
	return d
}

func parseDirective(item string) (d Directive, ok bool) {
	item = trimOWS(item)
	name, argument, given := strings.Cut(item, "=")
	d.Given = given
	// No blanks belong around the equals sign. Who wrote them meant the
	// directive, so it counts, but its argument does not.
	if n := trimOWS(name); n != name {
		name, d.Bad = n, true
	}
	if a := trimOWS(argument); a != argument {
		argument, d.Bad = a, true
	}
	if !isToken(name) {
		return d, false
	}
	d.Name = strings.ToLower(name)
	switch {
	case !given:
	case strings.HasPrefix(argument, `"`):
		if d.Value, ok = unquote(argument); !ok {
			d.Bad = true
		}
	default:
		d.Value = argument
		d.Bad = d.Bad || !isToken(argument)
	}
	return d, true
}

// Has reports whether the directive is given, with whatever argument.
func (d Directives) Has(name string) bool {
	for i := range d {
		if d[i].Name == name {
			return true
		}
	}
	return false
}

// Seconds returns the time that a directive states. One that is not a proper
// number counts as zero: its author wanted a limit. If it stands several
// times the shortest counts (RFC 9111 §4.2.1).
func (d Directives) Seconds(name string) (value time.Duration, given bool) {
	for i := range d {
		if d[i].Name != name {
			continue
		}
		v, ok := parseSeconds(d[i].Value)
		if !ok || d[i].Bad {
			v = 0
		}
		if !given || v < value {
			value = v
		}
		given = true
	}
	return value, given
}

// Fields returns the field names that the argument of `private` or `no-cache`
// lists, canonical, and whether the directive stands without such a list (or
// with a malformed one) and so concerns the whole response.
func (d Directives) Fields(name string) (fields []string, whole bool) {
	for i := range d {
		if d[i].Name != name {
			continue
		}
		if !d[i].Given || d[i].Bad {
			whole = true
			continue
		}
		n := len(fields)
		for item := range strings.SplitSeq(d[i].Value, ",") {
			if item = trimOWS(item); item == "" {
				continue
			} else if !isToken(item) {
				whole = true
			} else {
				fields = append(fields, http.CanonicalHeaderKey(item))
			}
		}
		whole = whole || len(fields) == n
	}
	return fields, whole
}

// parseSeconds reads delta-seconds (RFC 9111 §1.2.2).
func parseSeconds(text string) (time.Duration, bool) {
	n, ok := position(text)
	if !ok {
		return 0, false
	}
	return time.Duration(min(n, maxSeconds)) * time.Second, true
}

// cutItem cuts at the next comma outside of quotes. A quote that is never
// closed is a character like others, or it would hide the rest.
func cutItem(s string) (item, rest string) {
	first := -1 // the first comma inside of the present quotes
	for i, quoted := 0, false; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted, first = !quoted, -1
		case c == ',' && !quoted:
			return s[:i], s[i+1:]
		case c == ',' && first < 0:
			first = i
		}
		if i >= len(s)-1 && quoted && first >= 0 {
			return s[:first], s[first+1:]
		}
	}
	return s, ""
}

// unquote reads a quoted-string (RFC 9110 §5.6.4).
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", false
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s, strings.IndexByte(s, '"') < 0
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return "", false
		case s[i] == '\\':
			if i++; i == len(s) {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func trimOWS(s string) string { return strings.Trim(s, " \t") }
