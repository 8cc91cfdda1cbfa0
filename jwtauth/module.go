// Package jwtauth is the `jwt_auth` handler: it lets requests with a valid JSON
// Web Token through, and identifies the client to later handlers and services.
package jwtauth

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/shared"
	"github.com/pythopus/tentagate/internal/site"
	"github.com/pythopus/tentagate/jwtauth/internal/deny"
	"github.com/pythopus/tentagate/jwtauth/internal/policy"
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler authenticates requests by their JSON Web Token, and decides by its
// claims what they may do. A request without a valid token gets 401 with an RFC
// 6750 challenge, one whose token does not suffice 403.
//
//	jwt_auth {
//		discovery https://issuer.example.com
//		audience https://api.example.com
//		scopes all orders:read
//		forward sub X-User
//	}
type Handler struct {
	// The providers by name. With several, the `iss` of a token selects one. A
	// null takes the provider that the global option `jwt_provider` defines under
	// that name. At least one is required.
	Providers map[string]*Provider `json:"providers,omitempty"`

	// Where tokens are taken from: `header` (Authorization: Bearer), `header:Name`,
	// `header:Name bearer` (with the scheme Bearer), `cookie:name`, `query:name`,
	// `websocket` (Sec-WebSocket-Protocol, by itself, after `bearer` or as
	// Kubernetes has it). What is empty is not a token. A request with more than one
	// is refused. Default: header.
	Sources []string `json:"sources,omitempty"`

	// Claims that the token must have; a token without them gets 403. Default: none.
	Require []policy.Requirement `json:"require,omitempty"`

	// Scopes that the token must have, in `scope` or `scp`; else 403. Default: none.
	Scopes []policy.Scopes `json:"scopes,omitempty"`

	// Roles that the client must have, in the claims of `roles_claim`; else 403.
	// Default: none.
	Roles []policy.Roles `json:"roles,omitempty"`

	// Paths of the claims that hold roles, as text or an array. Default: `roles`
	// and `realm_access.roles`.
	RolesClaim []string `json:"roles_claim,omitempty"`

	// Claims that the service gets as header fields. What the client sent in them,
	// in any spelling, is removed on every request of the site. Default: none.
	Forward []Forward `json:"forward,omitempty"`

	// Let requests without a token pass as anonymous. A bad token never passes.
	// Default: false.
	Optional bool `json:"optional,omitempty"`

	// Remove the token from the request to the service. Default: false.
	StripToken bool `json:"strip_token,omitempty"`

	// The realm of the challenge. Default: `api`.
	Realm string `json:"realm,omitempty"`

	// Metadata of the protected resource (RFC 9728). Default: none.
	ResourceMetadata *Metadata `json:"resource_metadata,omitempty"`

	// Bounds of the cache of verified tokens. Default: 32 MiB and 50000 tokens.
	TokenCache *TokenCache `json:"token_cache,omitempty"`

	// Refuse tokens that were revoked. Default: off.
	DenyList *DenyList `json:"deny_list,omitempty"`

	// Accept tokens that are bound to a key of the client. Default: off.
	DPoP *DPoP `json:"dpop,omitempty"`

	// Accept tokens that are bound to the client's certificate. Default: off.
	CertificateBound *CertificateBound `json:"certificate_bound,omitempty"`

	// Accept tokens that are bound to a key or a certificate as bearer tokens: the
	// service checks possession of the key. Default: false.
	IgnoreConfirmation bool `json:"ignore_confirmation,omitempty"`

	// Where the Caddyfile has this directive, such as `Caddyfile:12`. Errors name
	// it.
	Position string `json:"position,omitempty"`

	fields        *forwarded.Fields // nil without Forward
	missingDetail string            // of the 401 for a request without a token

	denied    *deny.Store // nil without a deny list
	deniedRef *pool.Ref[sharedList]

	cache    *tokenCache // nil if it is off
	cacheRef *pool.Ref[*tokenCache]
	now      func() time.Time

	providers []*Provider
	byIssuer  map[string]*Provider
	sources   []source
	logger    *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.jwt_auth",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision reads keys and checks the options.
func (h *Handler) Provision(ctx caddy.Context) error {
	return place.Error(ctx, directive, h.Position, h.provision(ctx))
}

func (h *Handler) provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	metrics.Register(ctx.GetMetricsRegistry(), collectors()...)
	h.now = time.Now
	forwarded.Install(ctx)
	if err := site.CheckReached(ctx, h.Position); err != nil {
		return err
	}
	h.warnOfCommas()
	if err := h.provisionOptions(); err != nil {
		return err
	}
	if len(h.Providers) == 0 {
		return errors.New("provider: missing: give it a secret, a public_key, a jwks or a discovery")
	}
	a, err := app.Get(ctx)
	if err != nil {
		return err
	}
	if err := h.provisionDenyList(a); err != nil {
		return err
	}
	if err := h.provisionProviders(ctx, a); err != nil {
		return err
	}
	if err := h.provisionConfirmation(a); err != nil {
		return err
	}
	if err := h.provisionMetadata(); err != nil {
		return err
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		a.OnStart(func() { h.warnOfForwardedSources(server) })
	}
	h.registerRevocable()
	return h.provisionCache()
}

// warnOfCommas warns of a value with a comma where several values were probably meant. A
// name may have one, as a distinguished name does.
func (h *Handler) warnOfCommas() {
	warn := func(option string, values []string) {
		for _, value := range values {
			if strings.Contains(value, ",") && !strings.ContainsAny(value, "={ ") {
				h.logger.Warn(option+": a comma is part of the value: several values are separated by blanks",
					zap.String("value", value), zap.String("write", strings.ReplaceAll(value, ",", " ")), zap.String("at", shared.Place(h.Position)))
			}
		}
	}
	for _, s := range h.Scopes {
		warn("scopes", s.Values)
	}
	for _, r := range h.Roles {
		warn("roles", r.Values)
	}
	for _, r := range h.Require {
		warn("require", r.Values)
	}
	warn("roles_claim", h.RolesClaim)
}

// Cleanup releases shared key sets and the cache.
func (h *Handler) Cleanup() error {
	h.unregisterRevocable()
	errs := []error{h.cacheRef.Release(), h.deniedRef.Release(), h.DPoP.cleanup()}
	for _, p := range h.providers {
		errs = append(errs, p.cleanup())
	}
	return errors.Join(errs...)
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.serve)
}

// validField reports whether s is the name of a header field that may be set
// for a service: not a connection-specific one (RFC 9110 §7.6.1).
func validField(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	switch http.CanonicalHeaderKey(s) {
	case "Connection", "Host", "Content-Length", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Keep-Alive":
		return false
	}
	return true
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
