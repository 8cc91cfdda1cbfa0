package site

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// FieldChanger is a handler that removes or sets request fields by its own options, as
// `jwt_auth` with `strip_token` does.
type FieldChanger interface {
	// ChangedFields returns the canonical names of the fields.
	ChangedFields() []string
}

// changesMatched reports whether handlers on the way, behind a matcher on it, change
// request fields or variables that the matcher looks at: matches would have another
// result than the matcher had.
func (w *way) changesMatched(server *caddyhttp.Server) bool {
	for i, s := range w.steps {
		looks := looksOf(matchersOf(s.at()))
		if looks == (look{}) {
			continue
		}
		for j, later := range w.steps[i:] {
			own := s.at()
			routes := caddyhttp.RouteList{}
			if j > 0 {
				own, routes = later.at(), later.earlier()
			}
			own.Handlers = own.Handlers[:later.handler]
			if slices.ContainsFunc(HandlersOf(server, append(routes, own)), looks.changedBy) {
				return true
			}
		}
	}
	return false
}

// look is what matchers look at of what handlers can change, in lower case.
type look struct {
	// fields and variables are texts that have the names of those that are looked at.
	fields, variables string
	// host and user: they look at the host, and at who the user is. other: there are
	// matchers of which it is not known.
	host, user, other bool
}

func looksOf(sets caddyhttp.MatcherSets) (l look) {
	for _, set := range sets {
		for _, m := range set {
			l.add(m)
		}
	}
	return l
}

func (l *look) add(m any) {
	if not, ok := m.(*caddyhttp.MatchNot); ok {
		for _, set := range not.MatcherSets {
			for _, inner := range set {
				l.add(inner)
			}
		}
		return
	}
	text := strings.ToLower(canonicalText(m))
	for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
		name := found[1]
		l.fields += name + "\n"
		l.variables += name + "\n"
		l.host = l.host || strings.HasPrefix(name, "http.request.host")
		l.user = l.user || strings.HasPrefix(name, "http.auth.")
	}
	switch strings.TrimPrefix(moduleID(m), "http.matchers.") {
	case "host":
		l.host = true
	case "path", "path_regexp", "method", "query", "remote_ip", "client_ip", "protocol", "tls", "file", "has_body":
		// They look at what no handler changes, or what is known as it was before.
	case "header", "header_regexp":
		l.fields += text
	case "vars", "vars_regexp":
		l.variables += text
	case "expression":
		l.fields, l.variables = l.fields+text, l.variables+text
	case "jwt_claim", "jwt_scope":
		l.user = true
	default:
		l.other = true
	}
}

// changedBy reports whether a handler changes something that is looked at.
func (l look) changedBy(h caddyhttp.MiddlewareHandler) bool {
	if f, ok := h.(FieldChanger); ok && slices.ContainsFunc(f.ChangedFields(), l.atField) {
		return true
	}
	if h, ok := h.(*headers.Handler); ok {
		return slices.ContainsFunc(requestFields(h), l.atField)
	}
	switch moduleID(h) {
	case "http.handlers.vars":
		for _, key := range keysOf(h) {
			if name := strings.ToLower(key); l.other || strings.Contains(name, "{") && l.variables != "" || strings.Contains(l.variables, name) {
				return true
			}
		}
	case "http.handlers.jwt_auth", "http.handlers.authentication":
		return l.user || l.other
	}
	return false
}

// atField reports whether a field of the name is looked at. An asterisk stands for any
// text.
func (l look) atField(name string) bool {
	name = strings.ToLower(name)
	switch {
	case l.other, strings.Contains(name, "{") && l.fields != "":
		return true
	case name == "host":
		return l.host || strings.Contains(l.fields, name)
	case name == "cookie" && strings.Contains(l.fields, "http.request.cookie."):
		return true
	}
	return l.fields != "" && strings.Contains(l.fields, strings.Trim(name, "*"))
}

// requestFields returns the names of the request fields that a `request_header` changes.
func requestFields(h *headers.Handler) (names []string) {
	if h.Request == nil {
		return nil
	}
	names = append(names, h.Request.Delete...)
	for _, fields := range []http.Header{h.Request.Set, h.Request.Add} {
		for name := range fields {
			names = append(names, name)
		}
	}
	for name := range h.Request.Replace {
		names = append(names, name)
	}
	return names
}
