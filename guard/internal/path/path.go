// Package path finds request paths that a gateway and the services behind it
// could interpret differently: the path that is matched, limited and authorised
// must be the one that the service gets.
package path

import (
	"errors"

	"github.com/pythopus/tentagate/internal/percent"
)

// Errors of Check.
var (
	errDotSegment = errors.New("the path has a dot segment: resolve it")
	errSlash      = errors.New("the path has an encoded slash or a backslash: separate segments with /")
	errControl    = errors.New("the path has a control character")
	errOverlong   = errors.New("the path is not valid UTF-8: it has an overlong encoding")
	errParameters = errors.New("the path has a semicolon, which begins path parameters: use the query")
	errTwice      = errors.New("the path is percent-encoded twice: encode it once")
)

// Allow is what Check accepts although it is ambiguous, because the operator knows
// that the services interpret it as the gateway does.
type Allow struct {
	Slashes    bool // `%2f` and, where double encoding is allowed, `%252f`
	Parameters bool // `;`, plain and encoded
	Twice      bool // `%25` before two hexadecimal digits
}

// Check returns an error for what is ambiguous in an escaped path, as it is in the
// request line. It reads the path as two percent-decodings leave it, because a
// service may decode what its server has decoded already, and finds in it:
//
//   - a dot segment (RFC 3986 §3.3), plain or encoded, or with a parameter as in
//     `..;x`: servers differ in whether and when they resolve it;
//   - an encoded slash, and a backslash in any encoding, which some servers take
//     for a slash. If allowed, an encoded slash is accepted unless it makes a dot
//     segment;
//   - a semicolon, unless allowed: a servlet container removes what follows it from
//     the segment, so that `/adm;x/y` is `/adm/y` there (RFC 3986 §3.3);
//   - double percent-encoding, unless allowed;
//   - a control character;
//   - a UTF-8 sequence that is longer than its character needs (RFC 3629 §3):
//     `%c0%af` is a slash to a lenient decoder.
//
// It allocates nothing and takes linear time.
func Check(escaped string, allow Allow) error {
	// A segment ends at a slash in any spelling, so that `..%2f` is seen as what
	// a lenient server makes of it. Decoding twice never joins two segments that
	// decoding once keeps apart, so one pass at the last level sees the dot
	// segments of all levels.
	var seg segment
	var previous byte
	var parameters, doubly bool
	for i := 0; i < len(escaped); {
		c, n := twice(escaped[i:])
		switch {
		case c < 0x20 || c == 0x7f:
			return errControl
		case overlong(previous, c):
			return errOverlong
		case c == '/' || c == '\\':
			if seg.dots() {
				return errDotSegment
			}
			if c == '\\' || n > 1 && !allow.Slashes {
				return errSlash
			}
			seg = segment{}
		default:
			seg.add(c)
		}
		parameters = parameters || c == ';'
		doubly = doubly || n > len("%2f")
		previous = c
		i += n
	}
	switch {
	case seg.dots():
		return errDotSegment
	case parameters && !allow.Parameters:
		return errParameters
	case doubly && !allow.Twice:
		return errTwice
	}
	return nil
}

// segment is the state of the segment that is being read.
type segment struct {
	leading int  // dots read so far
	other   bool // anything but dots before the parameters
	params  bool // behind a `;`
}

func (s *segment) add(c byte) {
	switch {
	case s.params:
	case c == ';':
		s.params = true
	case c == '.':
		s.leading++
	default:
		s.other = true
	}
}

// dots reports whether the segment is `.` or `..`, parameters aside.
func (s *segment) dots() bool {
	return !s.other && (s.leading == 1 || s.leading == 2)
}

// overlong reports whether two bytes begin a UTF-8 sequence that could be shorter.
// Other invalid UTF-8 is accepted: it is not another encoding of any character.
func overlong(first, second byte) bool {
	switch first {
	case 0xc0, 0xc1:
		return second&0xc0 == 0x80
	case 0xe0:
		return second >= 0x80 && second < 0xa0
	case 0xf0:
		return second >= 0x80 && second < 0x90
	}
	return false
}

// twice returns the first character of s after two percent-decodings, and how
// many bytes of s encode it: 1 to 9.
func twice(s string) (c byte, n int) {
	if c, n = once(s); c != '%' {
		return c, n
	}
	// The percent sign may begin an escape whose digits are encoded too, as in
	// `%25%32%65`.
	hi, n1 := once(s[n:])
	high, ok := percent.Digit(hi)
	if !ok {
		return c, n
	}
	lo, n2 := once(s[n+n1:])
	low, ok := percent.Digit(lo)
	if !ok {
		return c, n
	}
	return high<<4 | low, n + n1 + n2
}

// once returns the first character of s after one percent-decoding, and how
// many bytes of s encode it. A percent sign without two digits is itself.
func once(s string) (c byte, n int) {
	if s == "" {
		return 0, 0
	}
	if c, ok := percent.Decode(s); ok {
		return c, 3
	}
	return s[0], 1
}
