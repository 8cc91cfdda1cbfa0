package jwtauth

import (
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/pythopus/tentagate/internal/cookies"
	"github.com/pythopus/tentagate/internal/identity"
)

// The kinds of sources.
const (
	kindHeader    = "header"
	kindCookie    = "cookie"
	kindQuery     = "query"
	kindWebSocket = "websocket"
)

const acceptedSources = "accepted are header, header:Name, `header:Name bearer`, cookie:name, query:name and websocket"

// source is a part of a request that may have a token.
type source struct {
	kind, name string
	// bearer: the field has the scheme Bearer before the token.
	bearer bool
}

// authorization is the default source.
var authorization = source{kindHeader, "Authorization", true}

func parseSources(texts []string) ([]source, error) {
	if len(texts) == 0 {
		return []source{authorization}, nil
	}
	var list []source
	for _, text := range texts {
		s, ok := parseSource(text)
		if !ok {
			return nil, fmt.Errorf("sources: %q: %s", text, acceptedSources)
		}
		for _, other := range list {
			if other.kind == s.kind && other.name == s.name {
				return nil, fmt.Errorf("sources: %q is given more than once", text)
			}
		}
		list = append(list, s)
	}
	return list, nil
}

func parseSource(text string) (source, bool) {
	if text == kindWebSocket {
		return source{kind: kindWebSocket}, true
	}
	kind, name, named := strings.Cut(text, ":")
	switch {
	case kind == kindHeader && !named:
		return authorization, true
	case kind == kindHeader:
		field, scheme, schemed := strings.Cut(name, " ")
		if !validField(field) || schemed && !strings.EqualFold(strings.TrimSpace(scheme), "bearer") {
			return source{}, false
		}
		field = http.CanonicalHeaderKey(field)
		return source{kind, field, schemed || field == authorization.name}, true
	}
	return source{kind: kind, name: name}, (kind == kindCookie || kind == kindQuery) && strings.TrimSpace(name) != ""
}

// joinSchemes makes one source of `header:Name bearer`, written in two words.
func joinSchemes(texts []string) []string {
	var joined []string
	for _, text := range texts {
		if last := len(joined) - 1; last >= 0 && strings.EqualFold(text, "bearer") && strings.HasPrefix(joined[last], kindHeader+":") {
			joined[last] += " bearer"
			continue
		}
		joined = append(joined, text)
	}
	return joined
}

// field returns the header field with the token, or "" for the query.
func (s *source) field() string {
	switch s.kind {
	case kindCookie:
		return "Cookie"
	case kindWebSocket:
		return protocolField
	case kindQuery:
		return ""
	}
	return s.name
}

// identity returns the place for later handlers.
func (s *source) identity(proof bool) identity.Source {
	place := identity.Source{Field: s.field(), Proof: proof}
	if s.kind == kindCookie {
		place.Cookie = s.name
	}
	return place
}

// String describes the source for a client.
func (s *source) String() string {
	switch s.kind {
	case kindCookie:
		return "the cookie " + s.name
	case kindQuery:
		return "the query parameter " + s.name
	case kindWebSocket:
		return "the field Sec-WebSocket-Protocol of a WebSocket"
	}
	if s.bearer {
		return "the field " + s.name + " with the scheme Bearer"
	}
	return "the field " + s.name
}

// describeSources describes all sources for a client.
func describeSources(sources []source) string {
	var names []string
	for i := range sources {
		names = append(names, sources[i].String())
	}
	if last := len(names) - 1; last > 0 {
		return strings.Join(names[:last], ", ") + " or " + names[last]
	}
	return strings.Join(names, "")
}

// tokens appends the tokens of this source to those found before. A field with
// another scheme has none, nor has an empty one; with proofs, the scheme DPoP is
// accepted too.
func (s *source) tokens(r *http.Request, found []string, proofs bool) []string {
	switch s.kind {
	case kindCookie:
		for value := range cookies.Named(r.Header, s.name) {
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			found = appendToken(found, value)
		}
		return found
	case kindQuery:
		for pair := range parameters(r.URL.RawQuery) {
			if name, value, _ := strings.Cut(pair, "="); s.names(name) {
				if text, err := url.QueryUnescape(value); err == nil {
					value = text
				}
				found = appendToken(found, value)
			}
		}
		return found
	case kindWebSocket:
		if r.Header[protocolField] == nil || !isWebSocket(r) {
			return found
		}
		return append(found, protocolsOf(r).tokens...)
	}
	values := r.Header[s.name]
	if !s.bearer {
		for _, value := range values {
			found = appendToken(found, value)
		}
		return found
	}
	for _, value := range values {
		scheme, text, _ := strings.Cut(value, " ")
		if strings.EqualFold(scheme, "Bearer") || proofs && s.name == authorization.name && strings.EqualFold(scheme, "DPoP") {
			found = append(found, strings.TrimLeft(text, " "))
		} else if len(values) > 1 {
			// Two credentials in one request: which one a service uses is ambiguous.
			found = append(found, "")
		}
	}
	return found
}

func appendToken(found []string, value string) []string {
	if strings.TrimSpace(value) == "" {
		return found
	}
	return append(found, value)
}

// usesDPoP reports whether the request has the scheme DPoP, and it is accepted.
func (h *Handler) usesDPoP(r *http.Request) bool {
	if h.DPoP == nil {
		return false
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "DPoP")
}

// strip removes the token from the request that the service gets.
func (s *source) strip(r *http.Request, proofs bool) {
	switch s.kind {
	case kindHeader:
		if len(s.tokens(r, nil, proofs)) > 0 {
			delete(r.Header, s.name)
		}
	case kindCookie:
		s.stripCookie(r)
	case kindQuery:
		var kept []byte
		for pair, separator := range parameters(r.URL.RawQuery) {
			if name, _, _ := strings.Cut(pair, "="); !s.names(name) {
				kept = append(append(kept, separator), pair...)
			}
		}
		r.URL.RawQuery = string(kept[min(len(kept), 1):])
	}
}

// parameters returns the parameters of a query as they were sent, and the separator
// before each. Some services separate them by semicolons too.
func parameters(query string) iter.Seq2[string, byte] {
	return func(yield func(string, byte) bool) {
		for separator := byte('&'); ; {
			end := strings.IndexAny(query, "&;")
			if end < 0 {
				yield(query, separator)
				return
			}
			if !yield(query[:end], separator) {
				return
			}
			query, separator = query[end+1:], query[end]
		}
	}
}

// names reports whether the name of a parameter, as it was sent, is that of the source.
func (s *source) names(name string) bool {
	if name == s.name {
		return true
	}
	if !strings.ContainsAny(name, "%+") {
		return false
	}
	text, err := url.QueryUnescape(name)
	return err == nil && text == s.name
}

// stripCookie leaves the other cookies unchanged: parsing and writing them again
// would lose quotes, and cookies that Go does not parse.
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
