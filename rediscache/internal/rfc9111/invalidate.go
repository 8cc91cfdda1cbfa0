package rfc9111

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/dunglas/httpsfv"
)

// Safe reports whether the method is known to change nothing at the origin (RFC
// 9110 §9.2.1 and the registry of methods). Any other may, known or not.
func Safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodConnect,
		"PROPFIND", "REPORT", "SEARCH", "QUERY", "PRI":
		return true
	}
	return false
}

// Invalidates reports whether the answer to an unsafe request shows that it did
// something: any that is not an error (RFC 9111 §4.4).
func Invalidates(method string, status int) bool {
	return !Safe(method) && status >= 200 && status < 400
}

// AlsoInvalid returns the URLs of Location and Content-Location that an answer
// to an unsafe request makes invalid beside its target: those of the same
// origin.
func AlsoInvalid(target *url.URL, response http.Header) []*url.URL {
	var urls []*url.URL
	for _, name := range []string{"Location", "Content-Location"} {
		for _, value := range response[name] {
			u, err := target.Parse(value)
			if err != nil || !SameOrigin(target, u) {
				continue
			}
			u.Fragment, u.RawFragment, u.User = "", "", nil
			urls = append(urls, u)
		}
	}
	return urls
}

// SameOrigin compares scheme, host and port (RFC 9110 §4.3.1).
func SameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "https") {
		return "443"
	}
	return "80"
}

// maxGroupBytes bounds the fields of RFC 9875, which asks for at least 128 groups
// of 32 characters.
const maxGroupBytes = 16 << 10

// GroupsFit reports whether the fields are short enough for Groups.
func GroupsFit(values []string) bool {
	size := 0
	for _, value := range values {
		size += len(value)
	}
	return size <= maxGroupBytes
}

// Groups reads the Cache-Groups or Cache-Group-Invalidation field (RFC 9875):
// a list of strings. Members that are not strings are left out; what is not a list at
// all, or does not fit, is as if it were not there.
func Groups(values []string) (groups []string) {
	if len(values) == 0 || !GroupsFit(values) {
		return nil
	}
	list, err := httpsfv.UnmarshalList(values)
	if err != nil {
		return nil
	}
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			continue
		}
		if s, ok := item.Value.(string); ok && s != "" {
			groups = append(groups, s)
		}
	}
	return groups
}
