// Package fieldname compares the names of header fields as services may read them.
package fieldname

import (
	"net/http"
	"strings"
)

// Hyphenated returns a canonical field name with a hyphen for each character that is
// neither a letter nor a digit. CGI, WSGI and PHP put fields into variables, where
// Api-Key and api_key are one.
func Hyphenated(name string) string {
	for i := range len(name) {
		if separator(rune(name[i])) {
			return http.CanonicalHeaderKey(strings.Map(func(c rune) rune {
				if separator(c) {
					return '-'
				}
				return c
			}, name))
		}
	}
	return name
}

// separator reports whether a character of a field name is none of those that a name
// usually has.
func separator(c rune) bool {
	return c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z')
}
