// Package fieldname compares the names of header fields as services may read them.
package fieldname

import "net/http"

// Hyphenated returns a canonical field name with a hyphen for each character that is
// neither a letter nor a digit. CGI, WSGI and PHP put fields into variables, where
// Api-Key and api_key are one.
func Hyphenated(name string) string {
	for i := range len(name) {
		if !usual[name[i]] {
			return hyphenated(name)
		}
	}
	return name
}

func hyphenated(name string) string {
	text := []byte(name)
	for i, c := range text {
		if !usual[c] {
			text[i] = '-'
		}
	}
	return http.CanonicalHeaderKey(string(text))
}

// usual are the bytes that stay: each field of each request is compared.
var usual = func() (is [256]bool) {
	for c := range is {
		letter := c | 0x20
		is[c] = c == '-' || '0' <= c && c <= '9' || 'a' <= letter && letter <= 'z'
	}
	return is
}()
