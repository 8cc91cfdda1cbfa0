package caddyfile

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/site"
)

func init() {
	caddy.RegisterModule(&PathRoutes{})
	caddy.RegisterModule(&Services{})
	caddy.RegisterModule(HasBody{})
}

// PathRoutes serves every request below a path. It does what a subroute behind a
// path matcher does, but its routes are compiled once, not for each request, and
// no request goes on behind the last of them.
type PathRoutes struct {
	// Path is what the paths of the requests begin with, such as `/api/`. It ends
	// with a slash and is compared in any case. Required.
	Path string `json:"path,omitempty"`

	// Routes of the requests below the path. Default: none.
	Routes caddyhttp.RouteList `json:"routes,omitempty"`

	prefix string // Path in lower case
	chain  caddyhttp.Handler
	names  map[string]string // of the services behind, by lower case
}

// CaddyModule returns the Caddy module information.
func (*PathRoutes) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.path_routes",
		New: func() caddy.Module { return new(PathRoutes) },
	}
}

// Provision provisions and compiles the routes.
func (p *PathRoutes) Provision(ctx caddy.Context) error {
	if err := site.CheckOwnPaths(ctx, site.GatewayMark, p.Path); err != nil {
		return fmt.Errorf("tentagate: %w", err)
	}
	if err := p.Routes.Provision(ctx); err != nil {
		return err
	}
	p.prefix, p.chain, p.names = lower(p.Path), compile(ctx, p.Routes), map[string]string{}
	for _, route := range p.Routes {
		for _, h := range route.Handlers {
			if s, ok := h.(*Services); ok && s.Path == p.Path {
				for name := range s.Services {
					p.names[lower(name)] = name
				}
			}
		}
	}
	return nil
}

// Validate checks the path.
func (p *PathRoutes) Validate() error { return checkPrefix(p.Path) }

// Subroutes returns the routes that requests go through.
func (p *PathRoutes) Subroutes() caddyhttp.RouteList { return p.Routes }

func (p *PathRoutes) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if _, ok := below(r, p.prefix); !ok {
		return next.ServeHTTP(w, r)
	}
	p.noteSpelling(r)
	return p.chain.ServeHTTP(w, r)
}

// noteSpelling notes the path as the configuration spells it. What the service gets is the
// same in any spelling, so it is one resource to handlers in between, such as http_cache.
func (p *PathRoutes) noteSpelling(r *http.Request) {
	if len(p.names) == 0 {
		return
	}
	path := r.URL.EscapedPath()
	if spelling := spelled(path, p.Path, p.names); spelling != "" && spelling != path {
		requeststate.SetPath(r, spelling)
	}
}

// Services passes each request to the service that the first segment of its path
// names, and answers 404 where there is none. It takes one look, however many
// services there are.
type Services struct {
	// Path is what stands before the name of a service, such as `/api/`. It ends
	// with a slash and is compared in any case. Required.
	Path string `json:"path,omitempty"`

	// Services are the routes of each service, by its name, which is compared in
	// any case.
	Services map[string]caddyhttp.RouteList `json:"services,omitempty"`

	prefix  string                       // Path in lower case
	chains  map[string]caddyhttp.Handler // by name in lower case
	unknown Problem
}

// CaddyModule returns the Caddy module information.
func (*Services) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.services",
		New: func() caddy.Module { return new(Services) },
	}
}

// Provision provisions and compiles the routes of the services.
func (s *Services) Provision(ctx caddy.Context) error {
	s.prefix, s.chains = lower(s.Path), make(map[string]caddyhttp.Handler, len(s.Services))
	s.unknown = Problem{Status: http.StatusNotFound, Detail: "Service not found"}
	for name, routes := range s.Services {
		if err := routes.Provision(ctx); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		s.chains[lower(name)] = compile(ctx, routes)
	}
	return nil
}

// Validate checks the path and the names.
func (s *Services) Validate() error {
	if len(s.chains) < len(s.Services) {
		return fmt.Errorf("services: two names differ only by their case")
	}
	for name := range s.Services {
		if err := checkServiceName(name); err != nil {
			return err
		}
	}
	return checkPrefix(s.Path)
}

func (s *Services) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	rest, _ := below(r, s.prefix)
	name, _, _ := strings.Cut(rest, "/")
	if chain, ok := s.chains[name]; ok {
		return chain.ServeHTTP(w, r)
	}
	return s.unknown.ServeHTTP(w, r, next)
}

func checkPrefix(path string) error {
	if !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/") {
		return fmt.Errorf("path %q: it begins and ends with a slash", path)
	}
	return nil
}

// HasBody matches requests that have a body, or whose client may still send one.
type HasBody struct{}

// CaddyModule returns the Caddy module information.
func (HasBody) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.matchers.has_body",
		New: func() caddy.Module { return new(HasBody) },
	}
}

// MatchWithError returns true if the request has a body.
func (HasBody) MatchWithError(r *http.Request) (bool, error) { return r.ContentLength != 0, nil }

// Interface guards
var (
	_ caddy.Provisioner                 = (*PathRoutes)(nil)
	_ caddy.Validator                   = (*PathRoutes)(nil)
	_ caddyhttp.MiddlewareHandler       = (*PathRoutes)(nil)
	_ caddy.Provisioner                 = (*Services)(nil)
	_ caddy.Validator                   = (*Services)(nil)
	_ caddyhttp.MiddlewareHandler       = (*Services)(nil)
	_ caddyhttp.RequestMatcherWithError = HasBody{}
)
