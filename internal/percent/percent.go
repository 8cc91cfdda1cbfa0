// Package percent has what the readers of percent-encoded text share (RFC 3986
// §2.1). It allocates nothing.
package percent

// Upper are the digits of normalized escapes (RFC 3986 §6.2.2.1).
const Upper = "0123456789ABCDEF"

// Decode returns the octet that an escape at the beginning of s encodes, and false
// if there is none.
func Decode(s string) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, ok1 := Digit(s[1])
	low, ok2 := Digit(s[2])
	return high<<4 | low, ok1 && ok2
}

// Digit returns the value of a hexadecimal digit.
func Digit(c byte) (value byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// Unreserved reports whether a character need not be escaped (RFC 3986 §2.3).
func Unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}
