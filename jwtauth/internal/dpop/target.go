package dpop

import (
	"cmp"
	"errors"
	"net/url"
	"strings"

	"github.com/pythopus/tentagate/internal/percent"
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
		return cmp.Or(escaped, "/")
	}
	return removeDots(normalizeEscapes(escaped))
}

func normalizeEscapes(path string) string {
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		c, ok := percent.Decode(path[i:])
		switch {
		case !ok:
			b.WriteByte(path[i])
			continue
		case percent.Unreserved(c):
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', percent.Upper[c>>4], percent.Upper[c&15]})
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
