package jwtauth

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/identity"
	"github.com/pythopus/tentagate/jwtauth/policy"
	"github.com/pythopus/tentagate/jwtauth/token"
)

var (
	errUnknownKey      = errors.New("no key for the token")
	errUnknownIssuer   = errors.New("the token's issuer is not accepted")
	errType            = errors.New("the token's type is not accepted")
	errForwardedValue  = errors.New("a claim of the token has a control character")
	errKeysUnavailable = errors.New("the keys are not available")
)

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	var found []string
	for _, s := range h.sources {
		found = append(found, s.tokens(r)...)
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
	claims, p, err := h.verify(r, found[0])
	if err != nil {
		name := ""
		if p != nil {
			name = p.name
		}
		return h.refuse(w, r, name, reasonOf(err), err)
	}
	if err := h.authorize(w, r, p, claims); err != nil {
		return err
	}
	count(p.name, "ok")
	identity.Set(r, &identity.Identity{Provider: p.name, Subject: claims.Text("sub"), Token: hash(found[0])})
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(placeholders(claims))
	}
	if h.StripToken {
		for _, s := range h.sources {
			s.strip(r)
		}
	}
	return next.ServeHTTP(w, r)
}

func hash(text string) (h [16]byte) {
	sum := sha256.Sum256([]byte(text))
	copy(h[:], sum[:])
	return h
}

// verify does the work in the order that costs a hostile client most and the
// gateway least: form, header, key, signature, payload, claims.
func (h *Handler) verify(r *http.Request, text string) (token.Claims, *Provider, error) {
	t, err := token.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	p := h.providers[0]
	var claims token.Claims
	if len(h.providers) > 1 {
		// The issuer selects the keys; it is no more than a hint until then.
		if claims, err = t.Claims(); err != nil {
			return nil, nil, err
		}
		if p = h.byIssuer[claims.Text("iss")]; p == nil {
			return nil, nil, errUnknownIssuer
		}
	}
	if !t.IsType(p.Types) {
		return nil, p, errType
	}
	if err := p.verifySignature(r, t); err != nil {
		return nil, p, err
	}
	if claims == nil {
		if claims, err = t.Claims(); err != nil {
			return nil, p, err
		}
	}
	return claims, p, claims.Check(&p.rules, time.Now())
}

func (p *Provider) verifySignature(r *http.Request, t *token.Token) error {
	if token.Method(t.Algorithm) == nil || len(p.Algorithms) > 0 && !slices.Contains(p.Algorithms, t.Algorithm) {
		return token.ErrAlgorithm
	}
	keys, known := p.source.Keys().Find(t.KeyID, t.Algorithm)
	if !known {
		set := p.source.Refresh(r.Context())
		if set.Len() == 0 {
			return errKeysUnavailable
		}
		keys, _ = set.Find(t.KeyID, t.Algorithm)
	}
	if len(keys) == 0 {
		return errUnknownKey
	}
	for i := range keys {
		if t.Verify(t.Algorithm, keys[i].Value) == nil {
			return nil
		}
	}
	return token.ErrSignature
}

// authorize applies the policy and sets the forwarded fields.
func (h *Handler) authorize(w http.ResponseWriter, r *http.Request, p *Provider, claims token.Claims) error {
	for i := range h.Scopes {
		if !h.Scopes[i].Met(claims) {
			return h.forbid(w, r, p.name, h.Scopes[i].Values)
		}
	}
	for i := range h.Require {
		if !h.Require[i].Met(claims) {
			return h.forbid(w, r, p.name, nil)
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
		// Go's transport would refuse the request, and the client see a 502.
		if strings.ContainsFunc(text, func(c rune) bool { return c < 0x20 && c != '\t' || c == 0x7f }) {
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
