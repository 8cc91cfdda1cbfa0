package rfc9111

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// connectionFields speak about one connection (RFC 9110 §7.6.1) or about one
// exchange, and are never stored.
var connectionFields = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// Storable returns a copy of the fields without those that are never stored
// (RFC 9111 §3.1).
func Storable(h http.Header) http.Header {
	drop := slices.Clone(connectionFields)
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			drop = append(drop, http.CanonicalHeaderKey(strings.Trim(name, " \t")))
		}
	}
	kept := make(http.Header, len(h))
	for name, values := range h {
		if !slices.Contains(drop, name) && !strings.HasPrefix(name, http.TrailerPrefix) {
			kept[name] = slices.Clone(values)
		}
	}
	return kept
}

// Update returns the stored fields with those of a 304 put in (RFC 9111 §3.2).
// Fields that describe the stored content stay.
func Update(stored, fresh http.Header) http.Header {
	updated := stored.Clone()
	for name, values := range Storable(fresh) {
		switch name {
		case "Content-Encoding", "Content-Length", "Content-Type", "Content-Range", "Etag":
			if _, there := stored[name]; there {
				continue
			}
		}
		updated[name] = values
	}
	return updated
}

// Vary returns the names that select a variant, canonical and sorted, and
// whether the response matches no other request at all (`*`; RFC 9111 §4.1).
func Vary(h http.Header) (names []string, never bool) {
	for _, value := range h["Vary"] {
		for name := range strings.SplitSeq(value, ",") {
			switch name = strings.Trim(name, " \t"); name {
			case "":
			case "*":
				return nil, true
			default:
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), false
}

// Variant returns the values of the named fields of a request in one text, each
// with its length, after removing the blanks that have no meaning.
func Variant(names []string, request http.Header) string {
	var b strings.Builder
	for _, name := range names {
		values, given := request[name]
		if !given {
			b.WriteByte('-')
			continue
		}
		for _, value := range values {
			for item := range strings.SplitSeq(value, ",") {
				item = strings.Join(strings.Fields(item), " ")
				b.WriteString(strconv.Itoa(len(item)))
				b.WriteByte(':')
				b.WriteString(item)
			}
		}
		b.WriteByte(';')
	}
	return b.String()
}
