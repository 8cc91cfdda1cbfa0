package jwtauth

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/credentials"
	"github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/internal/shared"
	"github.com/pythopus/tentagate/internal/site"
	"github.com/pythopus/tentagate/jwtauth/internal/policy"
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
		if err := checkScopes("scopes", s.Values); err != nil {
			return err
		}
	}
	for _, r := range h.Roles {
		if len(r.Values) == 0 {
			return errors.New("roles: missing role: `roles any` and `roles all` take at least one")
		}
	}
	var err error
	if h.sources, err = parseSources(h.Sources); err != nil {
		return err
	}
	h.hideCredentials()
	h.warnOfEmptyRequirements()
	h.warnOfPatterns()
	h.missingDetail = "a bearer token in the Authorization field is required"
	if len(h.sources) > 1 || h.sources[0] != authorization {
		h.missingDetail = "a token is required in " + describeSources(h.sources)
	}
	var names []string
	for i := range h.Forward {
		f := &h.Forward[i]
		if err := f.validate(); err != nil {
			return err
		}
		f.Header = http.CanonicalHeaderKey(f.Header)
		if slices.Contains(names, f.Header) {
			return fmt.Errorf("forward: two claims go to the field %s, of which it can have one: give each its own", f.Header)
		}
		names = append(names, f.Header)
	}
	h.fields = forwarded.Of(names...)
	return h.checkForward()
}

// checkScopes refuses a list of scopes that is empty, or has what is not a scope.
func checkScopes(option string, scopes []string) error {
	if len(scopes) == 0 {
		return fmt.Errorf("%s: missing scope: it takes at least one", option)
	}
	for _, name := range scopes {
		if name == "" || quotable(name) != name || strings.Contains(name, " ") {
			return fmt.Errorf("%s: %q: a scope is printable ASCII without spaces, quotes and backslashes (RFC 6749 section 3.3)", option, name)
		}
	}
	return nil
}

// warnOfEmptyRequirements: in a Caddyfile, a requirement whose variable is empty
// reads like one that accepts any value.
func (h *Handler) warnOfEmptyRequirements() {
	for i := range h.Require {
		warnOfEmpty(h.logger, &h.Require[i], h.Position)
	}
}

func warnOfEmpty(log *zap.Logger, r *policy.Requirement, at string) {
	if len(r.Values) == 0 {
		log.Warn("a required claim has no values, so any value is accepted: if a variable should have held them, it is empty; "+
			"to accept any value without this warning, write *", zap.String("claim", r.Path), zap.String("at", at))
	}
}

// warnOfPatterns warns of `*` as a role or a scope, which is compared as text, so that
// the tokens of most issuers are refused.
func (h *Handler) warnOfPatterns() {
	warn := func(option string, values []string) {
		if slices.Contains(values, "*") {
			h.logger.Warn(option+": * is compared as text and stands for no other value; leave it out, or accept any value with `require <claim> *`",
				zap.String("at", shared.Place(h.Position)))
		}
	}
	for _, s := range h.Scopes {
		warn("scopes", s.Values)
	}
	for _, r := range h.Roles {
		warn("roles", r.Values)
	}
}

// hideCredentials registers the fields and parameters that have tokens with the log
// filter.
func (h *Handler) hideCredentials() {
	for i := range h.sources {
		if s := &h.sources[i]; s.kind == kindQuery {
			credentials.AddParameter(s.name)
		} else if field := s.field(); field != "" {
			credentials.AddField(field)
		}
	}
	if h.DPoP != nil {
		credentials.AddField(proofField)
	}
}

// reads calls f with each header field from which tokens and proofs are read.
func (h *Handler) reads(f func(field string)) {
	for i := range h.sources {
		if field := h.sources[i].field(); field != "" {
			f(field)
		}
	}
	if h.DPoP != nil {
		f(proofField)
	}
}

// checkForward refuses to forward in a field that the token comes in: what a
// client sends there is removed, and so no request would have a token.
func (h *Handler) checkForward() (err error) {
	h.reads(func(field string) {
		if err == nil && h.fields.Has(field) {
			err = fmt.Errorf("forward: what clients send in the field %s is removed, but it is read here too: forward in another field", field)
		}
	})
	return err
}

// warnOfForwardedSources warns if another handler of the site forwards claims in
// a field that this one reads: clients cannot send it then. It is called when the
// configuration is complete.
func (h *Handler) warnOfForwardedSources(server *caddyhttp.Server) {
	for _, handlers := range site.Handlers(server) {
		if !slices.Contains(handlers, caddyhttp.MiddlewareHandler(h)) {
			continue
		}
		for _, handler := range handlers {
			other, ok := handler.(*Handler)
			if !ok || other == h {
				continue
			}
			h.reads(func(field string) {
				if other.fields.Has(field) {
					h.logger.Warn("clients cannot send tokens in this field: another jwt_auth of the site forwards claims in it, "+
						"and such fields are removed from every request of the site",
						zap.String("field", field), zap.String("at", h.Position), zap.String("forwarded_at", other.Position))
				}
			})
		}
	}
}

// resolveOptions replaces placeholders. An option without a value is an error: its
// check would be off.
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
	h.Realm = cmp.Or(h.Realm, "api")
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
// commas; a literal comma is part of its value.
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
