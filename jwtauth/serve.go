package jwtauth

import (
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/internal/placeholders"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/stage"
	"github.com/pythopus/tentagate/jwtauth/internal/policy"
	"github.com/pythopus/tentagate/jwtauth/internal/token"
)

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	placeholders.Known(r)
	s := requeststate.Of(r)
	if s != nil {
		s.Decisions.Stages.Enter(stage.Auth)
		accesslog.Add(r, s)
	}
	if h.isMetadata(r) {
		return h.serveMetadata(w, r)
	}
	var room [2]string
	found := room[:0]
	var from *source
	for i := range h.sources {
		before := len(found)
		if found = h.sources[i].tokens(r, found, h.DPoP != nil); len(found) > before {
			from = &h.sources[i]
		}
	}
	if len(found) > 1 {
		return h.refuse(w, r, "", reasonSeveral, nil)
	}
	if len(found) == 0 {
		if !h.Optional {
			return h.refuse(w, r, "", reasonMissing, nil)
		}
		decided(r, "", "anonymous")
		h.fields.Remove(r)
		return next.ServeHTTP(w, r)
	}
	dryRun := s != nil && s.DryRun
	var v *verified
	var p *Provider
	var err error
	if dryRun {
		v, p, err = h.examine(r.Context(), found[0])
	} else {
		v, p, err = h.verify(r, found[0])
	}
	if err != nil {
		name := ""
		if p != nil {
			name = p.name
		}
		return h.refuse(w, r, name, reasonOf(err), err)
	}
	if s != nil {
		s.Decisions.Subject = v.identity.Subject
	}
	if err := h.confirm(r, p, v, found[0], h.usesDPoP(r)); err != nil {
		return h.refuse(w, r, p.name, reasonOf(err), err)
	}
	if h.denied != nil {
		if err := h.revoked(w, r, p, v); err != nil {
			return err
		}
	}
	if err := h.authorize(w, r, p, v.claims); err != nil {
		return err
	}
	identity.Set(r, &v.identity)
	identity.SetSource(r, from.identity(h.DPoP != nil))
	if s != nil {
		s.Token = v
		s.Decisions.Auth, s.Decisions.Provider = outcomeOK, p.name
	}
	placeholders.Provide(r, v)
	if h.StripToken {
		for i := range h.sources {
			h.sources[i].strip(r, h.DPoP != nil)
		}
		if h.DPoP != nil {
			delete(r.Header, proofField)
		}
	}
	switch from.kind {
	case kindQuery:
		identity.KeepPrivate(r)
		w = headers.Before(w, func(fields http.Header, _ int) { keepPrivate(fields) })
	case kindWebSocket:
		offered := protocolsOf(r)
		if len(offered.real) == 0 && offered.mark == "" {
			return h.refuse(w, r, p.name, reasonProtocol, nil)
		}
		h.rewriteProtocols(r, &offered)
		w = headers.Before(w, offered.answer)
	}
	if !dryRun {
		p.accepted.Inc()
	}
	return next.ServeHTTP(w, r)
}

// authorize applies the policy and sets the forwarded fields.
func (h *Handler) authorize(w http.ResponseWriter, r *http.Request, p *Provider, claims token.Claims) error {
	for i := range h.Scopes {
		if !h.Scopes[i].Met(claims) {
			s := &h.Scopes[i]
			return h.forbid(w, r, p.name, s.Values, describeNeeds("scope", s.All, s.Values))
		}
	}
	for i := range h.Require {
		if !h.Require[i].Met(claims) {
			// Its values are the operator's own: a tenant's name, for example.
			return h.forbid(w, r, p.name, nil, "an accepted value in the claim "+h.Require[i].Path)
		}
	}
	for i := range h.Roles {
		if !h.Roles[i].Met(claims, h.RolesClaim) {
			return h.forbid(w, r, p.name, nil, describeNeeds("role", h.Roles[i].All, h.Roles[i].Values))
		}
	}
	if err := h.forward(r, claims); err != nil {
		return h.refuse(w, r, p.name, reasonPayload, err)
	}
	return nil
}

// claimPlaceholders answers {http.auth.user.id} and {http.auth.user.<claim>}, which
// is empty where the token has no such claim.
func claimPlaceholders(claims token.Claims) caddy.ReplacerFunc {
	return func(key string) (any, bool) {
		path, ok := strings.CutPrefix(key, "http.auth.user.")
		if !ok {
			return nil, false
		}
		if path == "id" {
			return claims.Name("sub"), true
		}
		value, _ := policy.Lookup(claims, path)
		if text, ok := policy.Text(value); ok {
			return text, true
		}
		return nil, true
	}
}

func (h *Handler) debug(reason string, err error) {
	if c := h.logger.Check(zap.DebugLevel, "token refused"); c != nil {
		c.Write(zap.String("reason", reason), zap.Error(err))
	}
}
