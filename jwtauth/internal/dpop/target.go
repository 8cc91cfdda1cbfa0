package dpop

import (
	"errors"
	"net/url"
	"strings"
)

var errTarget = errors.New("not an http or https address without user and password")

// Target brings an address into the one form in which two are compared: without
// query and fragment, and after the syntax-based and scheme-based normalization
// of RFC 3986 §6.2.2 and §6.2.3 (RFC 9449 §4.3, check 9).
func Target(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
		return "", errTarget
	}
	origin, err := Origin(u.Scheme, u.Host)
	if err != nil {
		return "", err
	}
	return origin + Path(u.EscapedPath()), nil
}

// Origin is the first part of a target. It has no port where that is the
// scheme's own.
func Origin(scheme, host string) (string, error) {
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return "", errTarget
	}
	host = strings.TrimSuffix(host, ":")
	if host == "" {
		return "", errTarget
	}
	return scheme + "://" + host, nil
}

// Path is the second part of a target: an escaped path in which nothing is
// escaped that need not be, the escapes are upper-case, and no segment is a dot
// or two.
func Path(escaped string) string {
	if !strings.ContainsAny(escaped, "%.") {
		if escaped == "" {
			return "/"
		}
		return escaped
	}
	return removeDots(normalizeEscapes(escaped))
}

const upperHex = "0123456789ABCDEF"

func normalizeEscapes(path string) string {
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b.WriteByte(path[i])
			continue
		}
		high, low := unhex(path[i+1]), unhex(path[i+2])
		if high > 15 || low > 15 {
			b.WriteByte('%')
			continue
		}
		if c := high<<4 | low; unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + upperHex[high:high+1] + upperHex[low:low+1])
		}
		i += 2
	}
	return b.String()
}

// removeDots is RFC 3986 §5.2.4 for a path that begins with a slash.
func removeDots(path string) string {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	var kept []string
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
		default:
			kept = append(kept, s)
			continue
		}
		if last {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

// unreserved is RFC 3986 §2.3.
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// unhex returns more than 15 for what is no hexadecimal digit.
func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
