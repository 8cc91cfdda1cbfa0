package jwtauth

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// source is a place of a request where a token may stand.
type source struct {
	kind, name string
}

func parseSources(texts []string) ([]source, error) {
	if len(texts) == 0 {
		return []source{{"header", "Authorization"}}, nil
	}
	var list []source
	for _, text := range texts {
		kind, name, named := strings.Cut(text, ":")
		switch {
		case kind == "header" && !named:
			name = "Authorization"
		case kind == "header" && validField(name):
			name = http.CanonicalHeaderKey(name)
		case (kind == "cookie" || kind == "query") && name != "":
		default:
			return nil, fmt.Errorf("sources: %q: accepted are header, header:Name, cookie:name and query:name", text)
		}
		s := source{kind, name}
		for _, other := range list {
			if other == s {
				return nil, fmt.Errorf("sources: %q is given more than once", text)
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// tokens adds the tokens at this place to those found before. An Authorization
// field of another scheme is none; proofs accepts the scheme DPoP too.
func (s *source) tokens(r *http.Request, found []string, proofs bool) []string {
	switch s.kind {
	case "cookie":
		for _, c := range r.CookiesNamed(s.name) {
			found = append(found, c.Value)
		}
		return found
	case "query":
		if r.URL.RawQuery == "" {
			return found
		}
		return append(found, r.URL.Query()[s.name]...)
	}
	values := r.Header[s.name]
	if s.name != "Authorization" {
		return append(found, values...)
	}
	for _, value := range values {
		scheme, text, _ := strings.Cut(value, " ")
		if strings.EqualFold(scheme, "Bearer") || proofs && strings.EqualFold(scheme, "DPoP") {
			found = append(found, strings.TrimLeft(text, " "))
		} else if len(values) > 1 {
			// Two credentials in one request: which would a service take?
			found = append(found, "")
		}
	}
	return found
}

// byProof reports whether the request has the scheme DPoP, if that is accepted.
func (h *Handler) byProof(r *http.Request) bool {
	if h.DPoP == nil {
		return false
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "DPoP")
}

// strip removes the token from the request that the service gets.
func (s *source) strip(r *http.Request, proofs bool) {
	switch s.kind {
	case "header":
		if len(s.tokens(r, nil, proofs)) > 0 {
			delete(r.Header, s.name)
		}
	case "cookie":
		s.stripCookie(r)
	case "query":
		var kept []string
		for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
			name, _, _ := strings.Cut(pair, "=")
			if text, err := url.QueryUnescape(name); err != nil || text != s.name {
				kept = append(kept, pair)
			}
		}
		r.URL.RawQuery = strings.Join(kept, "&")
	}
}

// stripCookie leaves the other cookies as the client wrote them: what Go reads
// and writes again loses quotes, and cookies that it does not understand.
func (s *source) stripCookie(r *http.Request) {
	var lines []string
	for _, line := range r.Header["Cookie"] {
		var kept []string
		found := false
		for part := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(part, "=")
			if strings.Trim(name, " \t") == s.name {
				found = true
				continue
			}
			kept = append(kept, part)
		}
		if found {
			line = strings.TrimLeft(strings.Join(kept, ";"), " \t")
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	delete(r.Header, "Cookie")
	if len(lines) > 0 {
		r.Header["Cookie"] = lines
	}
}
