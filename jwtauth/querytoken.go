package jwtauth

import (
	"net/http"
	"strings"
)

// keepPrivate marks the response to a request with a token in its URL as private
// (RFC 6750 §2.3, RFC 9111 §5.2.2.7): shared caches use the URL as the key, and
// others may know it.
func keepPrivate(fields http.Header) {
	kept := []string{}
	for _, value := range fields["Cache-Control"] {
		for _, directive := range splitQuoted(value) {
			name, _, _ := strings.Cut(directive, "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "", "public", "s-maxage", "private", "proxy-revalidate":
			default:
				kept = append(kept, directive)
			}
		}
	}
	fields["Cache-Control"] = []string{strings.Join(append(kept, "private"), ", ")}
	// These take precedence over Cache-Control (RFC 9213 §2.2).
	for name := range fields {
		if name == "Surrogate-Control" || strings.HasSuffix(name, "Cdn-Cache-Control") {
			delete(fields, name)
		}
	}
}

// splitQuoted splits a list at the commas outside of quotes.
func splitQuoted(list string) []string {
	var items []string
	quoted, start := false, 0
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			items = append(items, strings.TrimSpace(list[start:i]))
			start = i + 1
		}
	}
	return append(items, strings.TrimSpace(list[start:]))
}
