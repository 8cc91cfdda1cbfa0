package admin

import (
	"github.com/caddyserver/caddy/v2"
)

// api is the module of a feature's endpoints.
type api struct {
	name   string
	routes []caddy.AdminRoute
}

// RegisterAPI adds endpoints to Caddy's admin API, which listens on localhost only
// unless it is configured otherwise. name is unique among the features; a pattern is
// that of http.ServeMux. It is called from init. The admin server is set up before
// the handlers are, so that serve finds what it is about in the pools of the process.
func RegisterAPI(name string, endpoints map[string]caddy.AdminHandlerFunc) {
	a := &api{name: name}
	for pattern, serve := range endpoints {
		a.routes = append(a.routes, caddy.AdminRoute{Pattern: pattern, Handler: serve})
	}
	caddy.RegisterModule(a)
}

// CaddyModule returns the Caddy module information.
func (a *api) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  caddy.ModuleID("admin.api.tentagate_" + a.name),
		New: func() caddy.Module { return a },
	}
}

// Routes returns the endpoints.
func (a *api) Routes() []caddy.AdminRoute { return a.routes }

// Interface guard
var _ caddy.AdminRouter = (*api)(nil)
