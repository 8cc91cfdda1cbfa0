// Package dashboard shows the state of the gateway live, as a page at Caddy's admin endpoint
// and, by the handler `dashboard`, elsewhere.
package dashboard

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	_ "github.com/pythopus/tentagate/internal/order" // registers the place of the directive
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/resource"
	"github.com/pythopus/tentagate/internal/site"
)

// directive is the name of the handler in a Caddyfile and in errors.
const directive = "dashboard"

// defaultPath is where the page is.
const defaultPath = "/dashboard"

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler serves the dashboard. Other requests pass. It shows the state of the whole gateway,
// so it must be behind authentication, or on a port for operators.
//
//	@operators remote_ip private_ranges
//	dashboard @operators
type Handler struct {
	// Path of the page, `/` for the root of the site. What else it needs is below.
	// Default: `/dashboard`.
	Path string `json:"path,omitempty"`

	// Who sees the page may force the states of circuit breakers. Default: false.
	Actions bool `json:"actions,omitempty"`

	// Where the Caddyfile has this directive. Errors name it.
	Position string `json:"position,omitempty"`

	ctx  caddy.Context
	base string // Path with a slash at the end
	page *resource.Resource
	run  problem.Handler // serve
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers." + directive,
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the default and makes the page.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx, h.run = ctx, h.serve
	h.Path = cmp.Or(h.Path, defaultPath)
	if err := checkPath(h.Path); err != nil {
		return place.Error(ctx, directive, h.Position, err)
	}
	h.base = strings.TrimSuffix(h.Path, "/") + "/"
	if h.Position != "" {
		if err := site.CheckOwnPaths(ctx, site.Mark(h.Position), h.Path, h.base); err != nil {
			return place.Error(ctx, directive, h.Position, fmt.Errorf("%w; its own path is set by path in its block", err))
		}
	}
	var err error
	h.page, err = newPage(handlerEvents, h.Actions)
	return err
}

// checkPath accepts a plain path.
func checkPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("path: %q is not a path: it begins with a slash", path)
	case path != "/" && strings.HasSuffix(path, "/"):
		return fmt.Errorf("path: %q ends with a slash: write it without", path)
	case strings.ContainsAny(path, "*?#{}\"<>% ") || strings.Contains(path, "//"):
		return fmt.Errorf("path: %q is not a plain path: it has no wildcards, query, escapes or placeholders", path)
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
