package jwtauth

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/resolve"
	"github.com/pythopus/tentagate/jwtauth/internal/keyset"
)

// Explain says whose token the request has, or why it is refused. Of the token itself it
// says what the access log has.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	passed := false
	err := h.serve(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		passed = true
		t.Pass(describe(r))
		return next.ServeHTTP(w, r)
	}))
	if passed {
		return err
	}
	if err == nil {
		t.Answer(http.StatusOK, "the metadata of the protected resource", nil)
		return nil
	}
	s := requeststate.Of(r)
	note, facts := h.noteOf(s.Decisions.Auth, s.Decisions.Provider), explain.Facts{"auth": s.Decisions.Auth}
	if s.Decisions.Provider != "" {
		facts["provider"] = s.Decisions.Provider
	}
	return t.Refuse(err, note, facts)
}

// describe says who the client is.
func describe(r *http.Request) (reason string, facts explain.Facts) {
	s := requeststate.Of(r)
	facts = explain.Facts{"auth": s.Decisions.Auth}
	if s.Decisions.Auth != outcomeOK {
		return "the request has no token, and passes as anonymous", facts
	}
	facts["provider"] = s.Decisions.Provider
	reason = "the token of the provider " + s.Decisions.Provider + " is accepted"
	if id, ok := identity.From(r); ok && id.Subject != "" {
		facts["user"] = accesslog.Pseudonym(id.Subject)
		reason += ", user " + facts["user"]
	}
	if v, ok := s.Token.(*verified); ok && v.confirmation.key != "" {
		reason += "; whether its DPoP proof was used before is not looked up"
	}
	return reason, facts
}

// noteOf says what a real request would do about the reason of a refusal, by a provider if
// that is known.
func (h *Handler) noteOf(reason, provider string) string {
	switch reason {
	case reasonKey, reasonSignature, reasonNoKeys:
	default:
		return ""
	}
	for _, p := range h.providers {
		if provider != "" && p.name != provider {
			continue
		}
		if _, ok := p.source.(*keyset.Remote); ok {
			return "by the keys that are known: a real request has them fetched again, at most every few seconds; see `tentagate keys`"
		}
		if p.readsFiles() {
			return "by the keys that were read last: a real request has their files read again, at most every few seconds"
		}
	}
	return ""
}

// readsFiles reports whether keys are in files, which are read again now and then.
func (p *Provider) readsFiles() bool {
	inFile := func(text string) bool {
		return slices.ContainsFunc(resolve.Placeholders(text), func(name string) bool { return strings.HasPrefix(name, "file.") })
	}
	return p.JWKS != "" || len(p.PublicKeys) > 0 || slices.ContainsFunc(p.Secrets, inFile)
}

// Interface guard
var _ explain.Handler = (*Handler)(nil)
