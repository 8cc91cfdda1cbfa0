package rfc9111

import (
	"strconv"
	"strings"
)

// Status is a member of the Cache-Status field (RFC 9211).
type Status struct {
	// Hit, or the reason why the request went forward: uri-miss, vary-miss,
	// stale, partial, request, method, bypass, miss.
	Hit bool
	Fwd string
	// FwdStatus is the status of the answer to the forwarded request, 0 if there
	// was none.
	FwdStatus int
	// TTL is the remaining freshness in seconds; HasTTL tells 0 from none.
	TTL    int64
	HasTTL bool

	Stored, Collapsed bool
	// Key is sent as a string; Detail is a token.
	Key, Detail string
}

// Append appends the member to b, under the name of the cache.
func (s *Status) Append(b []byte, name string) []byte {
	b = append(b, name...)
	if s.Hit {
		b = append(b, "; hit"...)
	}
	if s.Fwd != "" {
		b = append(append(b, "; fwd="...), s.Fwd...)
	}
	if s.FwdStatus != 0 {
		b = strconv.AppendInt(append(b, "; fwd-status="...), int64(s.FwdStatus), 10)
	}
	if s.HasTTL {
		b = strconv.AppendInt(append(b, "; ttl="...), s.TTL, 10)
	}
	if s.Stored {
		b = append(b, "; stored"...)
	}
	if s.Collapsed {
		b = append(b, "; collapsed"...)
	}
	if s.Key != "" {
		b = append(append(append(b, `; key="`...), quotable(s.Key)...), '"')
	}
	if s.Detail != "" {
		b = append(append(b, "; detail="...), s.Detail...)
	}
	return b
}

// quotable returns the text as it may stand in a string of RFC 9651: printable
// ASCII, with quotes and backslashes escaped.
func quotable(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c >= 0x7f:
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
