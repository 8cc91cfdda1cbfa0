// Package path finds request paths that a gateway and the services behind it
// could read differently: what is matched, limited and authorised must be what
// the service gets.
package path

import "errors"

// Errors of Check.
var (
	ErrDotSegment   = errors.New("the path has a dot segment: send it resolved")
	ErrEncodedSlash = errors.New("the path has an encoded slash or a backslash")
	ErrControl      = errors.New("the path has a control character")
)

// Check reads an escaped path, as it stands in the request line, and returns
// the first thing in it that is ambiguous:
//
//   - a dot segment (RFC 3986 §3.3), plain or percent-encoded, once or twice, or
//     with a parameter (`..;x`): servers differ in what they resolve, and when;
//   - `%2f`, `%5c` and `\`, which some servers take for a `/`. With
//     allowSlashes, `%2f` is accepted where it makes no dot segment;
//   - a control character, encoded or not.
//
// It allocates nothing.
func Check(escaped string, allowSlashes bool) error {
	// One pass by segments. A segment ends at a slash in any spelling, so that
	// `..%2f` is seen as what a lenient server makes of it.
	dots := 0       // dots that the segment begins with, if it has nothing else
	only := true    // the segment is dots alone so far
	params := false // behind a `;`
	end := func() bool { bad := only && (dots == 1 || dots == 2); dots, only, params = 0, true, false; return bad }
	for i := 0; i < len(escaped); {
		c, n := decode(escaped[i:])
		if c == '%' && n == 3 {
			// `%25` may begin another encoding, which a second decoding reveals.
			if second, m := decodeTwice(escaped[i:]); m > 0 && second == '.' {
				c, n = '.', m
			}
		}
		switch {
		case c < 0x20 || c == 0x7f:
			return ErrControl
		case c == '/' && n == 1:
			if end() {
				return ErrDotSegment
			}
		case c == '\\' || c == '/':
			if end() {
				return ErrDotSegment
			}
			if c == '\\' || !allowSlashes {
				return ErrEncodedSlash
			}
		case params:
		case c == ';':
			params = true
		case c == '.':
			dots++
		default:
			only = false
		}
		i += n
	}
	if end() {
		return ErrDotSegment
	}
	return nil
}

// decode returns the first character of s and how long its spelling is.
func decode(s string) (c byte, n int) {
	if s[0] != '%' || len(s) < 3 {
		return s[0], 1
	}
	hi, ok1 := hex(s[1])
	lo, ok2 := hex(s[2])
	if !ok1 || !ok2 {
		return '%', 1
	}
	return hi<<4 | lo, 3
}

// decodeTwice reads `%25XX` as a second decoding would, and returns length 0
// where s begins otherwise.
func decodeTwice(s string) (c byte, n int) {
	if len(s) < 5 {
		return 0, 0
	}
	hi, ok1 := hex(s[3])
	lo, ok2 := hex(s[4])
	if !ok1 || !ok2 {
		return 0, 0
	}
	return hi<<4 | lo, 5
}

func hex(c byte) (byte, bool) {
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
