package jwtauth

import (
	"net/http"
	"strings"
	"unicode"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/jwtauth/policy"
	"github.com/pythopus/tentagate/jwtauth/token"
)

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.isMetadata(r) {
		return h.serveMetadata(w, r)
	}
	var room [2]string
	found := room[:0]
	for i := range h.sources {
		found = h.sources[i].tokens(r, found, h.DPoP != nil)
	}
	if len(found) > 1 {
		return h.refuse(w, r, "", reasonSeveral, nil)
	}
	if len(found) == 0 {
		if !h.Optional {
			return h.refuse(w, r, "", reasonMissing, nil)
		}
		count("", "anonymous")
		h.clearForwarded(r)
		return next.ServeHTTP(w, r)
	}
	v, p, err := h.verify(r, found[0])
	if err != nil {
		name := ""
		if p != nil {
			name = p.name
		}
		return h.refuse(w, r, name, reasonOf(err), err)
	}
	if err := h.confirm(r, p, v, found[0], h.byProof(r)); err != nil {
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
	p.accepted.Inc()
	identity.Set(r, &v.identity)
	caddyhttp.SetVar(r.Context(), verifiedVar, v)
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(v.placeholders)
	}
	if h.StripToken {
		for i := range h.sources {
			h.sources[i].strip(r, h.DPoP != nil)
		}
		if h.DPoP != nil {
			delete(r.Header, proofField)
		}
	}
	return next.ServeHTTP(w, r)
}

// authorize applies the policy and sets the forwarded fields.
func (h *Handler) authorize(w http.ResponseWriter, r *http.Request, p *Provider, claims token.Claims) error {
	for i := range h.Scopes {
		if !h.Scopes[i].Met(claims) {
			s := &h.Scopes[i]
			return h.forbid(w, r, p.name, s.Values, wanted("scope", s.All, s.Values))
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
			return h.forbid(w, r, p.name, nil, wanted("role", h.Roles[i].All, h.Roles[i].Values))
		}
	}
	if len(h.Forward) == 0 {
		return nil
	}
	h.clearForwarded(r)
	for _, f := range h.Forward {
		value, ok := policy.Lookup(claims, f.Claim)
		if !ok {
			continue
		}
		text, ok := policy.Text(value)
		if !ok {
			continue
		}
		// Go's transport would refuse the request, and the client see a 502; and
		// what stands around a value is cut off on the way, so that another name
		// than the token's would arrive.
		if strings.ContainsFunc(text, unicode.IsControl) || strings.Trim(text, " ") != text {
			return h.refuse(w, r, p.name, reasonPayload, errForwardedValue)
		}
		r.Header[f.Header] = []string{text}
	}
	return nil
}

// clearForwarded removes what the client sent in the fields that say who asks,
// in every spelling that a service could take for them, and their names from
// Connection, which would make the proxy delete them.
func (h *Handler) clearForwarded(r *http.Request) {
	if len(h.Forward) == 0 {
		return
	}
	for name := range r.Header {
		if h.isForwarded(name) {
			delete(r.Header, name)
		}
	}
	// Trailers come after this, declared or not, and a service may take them for
	// fields.
	r.Trailer = nil
	connection := r.Header["Connection"]
	if connection == nil {
		return
	}
	var kept []string
	for _, value := range connection {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" && !h.isForwarded(name) {
				kept = append(kept, name)
			}
		}
	}
	r.Header["Connection"] = []string{strings.Join(kept, ", ")}
}

func (h *Handler) isForwarded(name string) bool {
	name = strings.ReplaceAll(name, "_", "-")
	for _, f := range h.Forward {
		if strings.EqualFold(f.Header, name) {
			return true
		}
	}
	return false
}

// placeholders answers {http.auth.user.id} and {http.auth.user.<claim>}.
func placeholders(claims token.Claims) caddy.ReplacerFunc {
	return func(key string) (any, bool) {
		path, ok := strings.CutPrefix(key, "http.auth.user.")
		if !ok {
			return nil, false
		}
		if path == "id" {
			return claims.Text("sub"), true
		}
		value, ok := policy.Lookup(claims, path)
		if !ok {
			return nil, false
		}
		return policy.Text(value)
	}
}

func (h *Handler) debug(reason string, err error) {
	if c := h.logger.Check(zap.DebugLevel, "token refused"); c != nil {
		c.Write(zap.String("reason", reason), zap.Error(err))
	}
}
