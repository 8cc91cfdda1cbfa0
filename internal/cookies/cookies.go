// Package cookies reads the cookies of a request as they were sent. net/http leaves out
// those that it finds malformed, such as values with quotes in them, but services read
// them: what is decided by a cookie must be decided by what the service sees.
package cookies

import (
	"iter"
	"net/http"
	"strings"
)

// All returns the names and values of all cookies in their order (RFC 6265 §4.2.1),
// without the whitespace around them and otherwise unchanged. What has no `=` is a name.
func All(header http.Header) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, line := range header["Cookie"] {
			for part := range strings.SplitSeq(line, ";") {
				name, value, _ := strings.Cut(part, "=")
				name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
				if (name != "" || value != "") && !yield(name, value) {
					return
				}
			}
		}
	}
}

// Named returns the values of the cookies of this name.
func Named(header http.Header, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for n, value := range All(header) {
			if n == name && !yield(value) {
				return
			}
		}
	}
}
