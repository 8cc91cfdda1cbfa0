package jwtauth

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/forwarded"
	"github.com/pythopus/tentagate/internal/placeholders"
)

func init() {
	caddy.RegisterModule(&Otherwise{})
}

// Otherwise stands beside a jwt_auth that has a matcher, for the requests that
// the matcher leaves out: what a client sends in the fields that some handler of
// the site forwards does not reach a service, and {http.auth.user.*} are empty.
// The Caddyfile directive adds it.
type Otherwise struct{ site *forwarded.Site }

// CaddyModule returns the Caddy module information.
func (*Otherwise) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.jwt_auth_otherwise",
		New: func() caddy.Module { return new(Otherwise) },
	}
}

// Provision prepares the handler.
func (o *Otherwise) Provision(ctx caddy.Context) error {
	o.site = forwarded.NewSite(ctx, o)
	return nil
}

func (o *Otherwise) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	placeholders.Known(r)
	o.site.Clean(r)
	return next.ServeHTTP(w, r)
}

// parseDirective reads the directive, which is a second route if it has a
// matcher.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	routes := h.NewRoute(matcher, handler)
	if len(matcher) > 0 {
		routes = append(routes, h.NewRoute(nil, new(Otherwise))...)
	}
	return routes, nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Otherwise)(nil)
	_ caddyhttp.MiddlewareHandler = (*Otherwise)(nil)
)
