package jwtauth

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/resolve"
)

// directive is the name in a Caddyfile, and in errors.
const directive = "jwt_auth"

// provisionOptions resolves and checks the options that are not a provider's.
func (h *Handler) provisionOptions() error {
	if err := h.resolveOptions(); err != nil {
		return err
	}
	if quotable(h.Realm) != h.Realm {
		return fmt.Errorf("realm %q: it must be printable ASCII without quotes and backslashes", h.Realm)
	}
	for _, s := range h.Scopes {
		for _, name := range s.Values {
			if name == "" || quotable(name) != name || strings.Contains(name, " ") {
				return fmt.Errorf("scopes: %q: a scope is printable ASCII without spaces, quotes and backslashes (RFC 6749 section 3.3)", name)
			}
		}
	}
	var err error
	if h.sources, err = parseSources(h.Sources); err != nil {
		return err
	}
	h.missing = "this needs a bearer token in the Authorization field"
	if len(h.sources) > 1 || h.sources[0] != authorization {
		h.missing = "this needs a token in " + placesOf(h.sources)
	}
	var names []string
	for i := range h.Forward {
		f := &h.Forward[i]
		if err := f.validate(); err != nil {
			return err
		}
		f.Header = http.CanonicalHeaderKey(f.Header)
		names = append(names, f.Header)
	}
	h.fields = forwarded.Of(names...)
	return h.checkForward()
}

// checkForward refuses to forward in a field that the token comes in: what a
// client sends there is removed, and so no request would have a token.
func (h *Handler) checkForward() error {
	reads := func(field string) error {
		if !h.fields.Has(field) {
			return nil
		}
		return fmt.Errorf("forward: what clients send in the field %s is removed, but it is read here too: forward in another field", field)
	}
	for i := range h.sources {
		field := h.sources[i].name
		switch h.sources[i].kind {
		case kindCookie:
			field = "Cookie"
		case kindWebSocket:
			field = protocolField
		case kindQuery:
			continue
		}
		if err := reads(field); err != nil {
			return err
		}
	}
	if h.DPoP != nil {
		return reads(proofField)
	}
	return nil
}

// resolveOptions replaces placeholders. An option without a value is an error: it
// would be a check that is not made.
func (h *Handler) resolveOptions() (err error) {
	one := func(option string, text *string) {
		if err == nil {
			*text, err = resolve.AtLoad(option, *text)
		}
	}
	several := func(option string, list *[]string) {
		if err == nil {
			*list, err = values(option, *list)
		}
	}
	if h.Realm == "" {
		h.Realm = "api"
	}
	one("realm", &h.Realm)
	several("sources", &h.Sources)
	several("roles_claim", &h.RolesClaim)
	for i := range h.Require {
		one("require", &h.Require[i].Path)
		several("require", &h.Require[i].Values)
	}
	for i := range h.Scopes {
		several("scopes", &h.Scopes[i].Values)
	}
	for i := range h.Roles {
		several("roles", &h.Roles[i].Values)
	}
	for i := range h.Forward {
		one("forward", &h.Forward[i].Claim)
		one("forward", &h.Forward[i].Header)
	}
	return err
}

// values resolves a list. A variable may hold several values, separated by
// commas; a comma that is written is one.
func values(option string, texts []string) ([]string, error) {
	var list []string
	for _, text := range texts {
		if len(resolve.Placeholders(text)) > 0 {
			several, err := resolve.List(option, []string{text})
			if err != nil {
				return nil, err
			}
			list = append(list, several...)
			continue
		}
		value, err := resolve.AtLoad(option, text)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, nil
}
