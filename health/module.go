// Package health answers the probes of orchestrators and load balancers.
package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/nearby"
	_ "github.com/pythopus/tentagate/internal/order" // registers the place of the directive
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/site"
)

// The default paths of the probes.
const (
	defaultPath      = "/health"
	defaultLivePath  = "/livez"
	defaultReadyPath = "/readyz"
)

// noDetails as the only value of details hides them from everybody.
const noDetails = "off"

// dependencyRedis is the one dependency that readiness can require.
const dependencyRedis = "redis"

func init() {
	caddy.RegisterModule(&Handler{})
}

// started is the start of the process.
var started = time.Now()

// Handler answers the probes on three paths: general health, liveness and
// readiness. Probes never block: the state of dependencies is monitored in the
// background.
//
//	health {
//		details private_ranges
//	}
type Handler struct {
	// Path of the general health, `{"status":"healthy"}`; with `?verbose`, or for a
	// client that accepts application/health+json, with details. Default: `/health`.
	Path string `json:"path,omitempty"`

	// Path of the liveness probe, which is 200 as long as the process can respond.
	// Default: `/livez`.
	LivePath string `json:"live_path,omitempty"`

	// Path of the readiness probe, which is 200, and 503 while the server is shutting
	// down or a required dependency is unavailable. Default: `/readyz`.
	ReadyPath string `json:"ready_path,omitempty"`

	// Dependencies without which this gateway is not ready: `redis`. An outage of
	// Redis then takes every gateway out at once. Default: none.
	Require []string `json:"require,omitempty"`

	// Write probes to the access log. Default: false.
	Log bool `json:"log,omitempty"`

	// Who gets the details of the general health: addresses and networks in CIDR
	// notation, `private_ranges`, `any`, or `off` for nobody. Others get the plain
	// response. Default: any.
	Details []string `json:"details,omitempty"`

	// Where the Caddyfile has this directive. Errors name it.
	Position string `json:"position,omitempty"`

	details *nearby.Networks // nil: everybody
	redis   *app.Redis
	warning string          // of the app, mostly empty
	run     problem.Handler // serve
	ctx     caddy.Context
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.health",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults and finds the dependencies.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx = ctx
	h.Path, h.LivePath, h.ReadyPath = cmp.Or(h.Path, defaultPath), cmp.Or(h.LivePath, defaultLivePath), cmp.Or(h.ReadyPath, defaultReadyPath)
	if h.Position != "" {
		if err := site.CheckOwnPaths(ctx, site.Mark(h.Position), h.Path, h.LivePath, h.ReadyPath); err != nil {
			return place.Error(ctx, "health", h.Position, fmt.Errorf("%w; a path behind `health` is a matcher: its own paths are set by path, live_path and ready_path in its block", err))
		}
	}
	var err error
	if h.details, err = h.readers(); err != nil {
		return place.Error(ctx, "health", h.Position, fmt.Errorf("details: %w", err))
	}
	a, err := app.Get(ctx)
	if err != nil {
		return place.Error(ctx, "health", h.Position, err)
	}
	h.redis, h.warning = a.Redis(), a.Warning()
	h.run = h.serve
	return nil
}

// readers returns who gets details, nil for everybody.
func (h *Handler) readers() (*nearby.Networks, error) {
	switch {
	case len(h.Details) == 0:
		return nil, nil
	case slices.Contains(h.Details, noDetails) && len(h.Details) > 1:
		return nil, fmt.Errorf("%s cannot be combined with other values", noDetails)
	case h.Details[0] == noDetails:
		return new(nearby.Networks), nil
	}
	return nearby.Parse(h.Details)
}

// Validate checks the paths and the dependencies.
func (h *Handler) Validate() error {
	return place.Error(h.ctx, "health", h.Position, h.validate())
}

func (h *Handler) validate() error {
	paths := []string{h.Path, h.LivePath, h.ReadyPath}
	for i, option := range []string{"path", "live_path", "ready_path"} {
		if err := checkPath(option, paths[i]); err != nil {
			return err
		}
		if slices.Contains(paths[:i], paths[i]) {
			return fmt.Errorf("%s: %q is the path of another probe", option, paths[i])
		}
	}
	for _, name := range h.Require {
		if err := checkDependency(name); err != nil {
			return err
		}
		if h.redis == nil {
			return fmt.Errorf("require %s: no Redis is configured; set REDIS_URL or the global option tentagate { redis <url> }", name)
		}
	}
	return nil
}

func checkPath(option, path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("%s: %q is not a path: it must begin with a slash", option, path)
	case strings.ContainsAny(path, "*?#{}"):
		return fmt.Errorf("%s: %q is not a plain path: it has no wildcards, query or placeholders", option, path)
	}
	return nil
}

func checkDependency(name string) error {
	if name != dependencyRedis {
		return fmt.Errorf("require: %q is not a dependency: accepted is %s", name, dependencyRedis)
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
