// Package cachekey makes the text of primary cache keys (RFC 9111 §2) from what a
// client sends: nothing that a client chooses can imitate another part of the key.
package cachekey

import (
	"net/http"
	"strconv"
	"strings"
)

// AppendPart appends a text with its length in front.
func AppendPart[T string | []byte](b []byte, s T) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	return append(append(b, ':'), s...)
}

// CutPart undoes AppendPart: it returns the text and what follows it.
func CutPart(s string) (part, rest string, ok bool) {
	length, rest, found := strings.Cut(s, ":")
	n, err := strconv.Atoi(length)
	if !found || err != nil || n < 0 || n > len(rest) {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}

// AppendFields appends the values of the fields with the names.
func AppendFields(b []byte, h http.Header, names []string) []byte {
	for _, name := range names {
		values := h[name]
		b = strconv.AppendInt(append(b, 'h'), int64(len(values)), 10)
		for _, v := range values {
			b = AppendPart(append(b, ' '), v)
		}
	}
	return b
}

// Ambiguous reports whether two servers may read an escaped path differently: it
// has a separator, a dot segment or a delimiter that is escaped, or a backslash.
// What is stored under such a path could be given to who asks for another.
func Ambiguous(path string) bool {
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '\\':
			return true
		case '/':
			if rest := path[i+1:]; strings.HasPrefix(rest, "/") || isDotSegment(rest) {
				return true
			}
		case '%':
			if i+2 >= len(path) || isDelimiter(path[i+1], path[i+2]) {
				return true
			}
		}
	}
	return false
}

// isDelimiter reports whether the two hexadecimal digits are those of a character
// that separates parts of a URL, or of a control character.
func isDelimiter(high, low byte) bool {
	switch strings.ToLower(string([]byte{high, low})) {
	case "2f", "5c", "2e", "3f", "23", "25", "7f":
		return true
	}
	return high < '2'
}

func isDotSegment(s string) bool {
	segment, _, _ := strings.Cut(s, "/")
	segment, _, _ = strings.Cut(segment, ";")
	return segment == "." || segment == ".."
}
