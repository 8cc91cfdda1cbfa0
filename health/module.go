// Package health answers the probes of orchestrators and load balancers.
package health

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/problem"
)

// Paths of the three probes unless the operator chooses others.
const (
	DefaultPath      = "/health"
	DefaultLivePath  = "/livez"
	DefaultReadyPath = "/readyz"
)

// dependencyRedis is the one dependency that readiness can require.
const dependencyRedis = "redis"

func init() {
	caddy.RegisterModule(&Handler{})
}

// started is when the process began to serve.
var started = time.Now()

// Handler answers three paths: one for people and older clients, one that says
// that the process lives, and one that says that it wants traffic. No answer
// waits for anything: the state of dependencies is watched in the background.
type Handler struct {
	// Path of the general answer, `{"status":"healthy"}`; with `?verbose`, or for
	// a client that accepts application/health+json, with details. Default:
	// `/health`.
	Path string `json:"path,omitempty"`

	// Path that answers 200 as long as the process can answer at all. Default:
	// `/livez`.
	LivePath string `json:"live_path,omitempty"`

	// Path that answers 200, and 503 while the server is shutting down or a
	// required dependency is away. Default: `/readyz`.
	ReadyPath string `json:"ready_path,omitempty"`

	// Dependencies without which this gateway wants no traffic: `redis`. A lost
	// Redis then takes every gateway out at once. Default: none.
	Require []string `json:"require,omitempty"`

	// Write probes to the access log. Default: false.
	Log bool `json:"log,omitempty"`

	redis *app.Redis
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
	for field, value := range map[*string]string{&h.Path: DefaultPath, &h.LivePath: DefaultLivePath, &h.ReadyPath: DefaultReadyPath} {
		if *field == "" {
			*field = value
		}
	}
	a, err := app.Get(ctx)
	if err != nil {
		return err
	}
	h.redis = a.Redis()
	return nil
}

// Validate checks the paths and the dependencies.
func (h *Handler) Validate() error {
	seen := map[string]bool{}
	for _, path := range []string{h.Path, h.LivePath, h.ReadyPath} {
		if !strings.HasPrefix(path, "/") {
			return errors.New("path " + strconv.Quote(path) + ": it must begin with a slash")
		}
		if seen[path] {
			return errors.New("path " + strconv.Quote(path) + ": each probe needs its own")
		}
		seen[path] = true
	}
	for _, name := range h.Require {
		if name != dependencyRedis {
			return errors.New("require " + strconv.Quote(name) + ": accepted is redis")
		}
		if h.redis == nil {
			return errors.New("require redis: there is no Redis in this configuration; set REDIS_URL or the global option `tentagate { redis … }`")
		}
	}
	return nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.serve)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := r.URL.Path
	if path != h.Path && path != h.LivePath && path != h.ReadyPath {
		return next.ServeHTTP(w, r)
	}
	if !h.Log {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return problem.Error(problem.New(http.StatusMethodNotAllowed, "a probe is a GET or a HEAD"))
	}
	switch path {
	case h.LivePath:
		return respond(w, r, http.StatusOK, "application/json", map[string]any{"status": "alive"})
	case h.ReadyPath:
		return h.ready(w, r)
	}
	if detailed(r) {
		return h.details(w, r)
	}
	return respond(w, r, http.StatusOK, "application/json", map[string]any{"status": "healthy"})
}

// ready says whether new traffic is wanted.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request) error {
	switch {
	case draining(r):
		return respond(w, r, http.StatusServiceUnavailable, "application/json", map[string]any{"status": "draining"})
	case h.redis == nil || h.redis.Up():
		return respond(w, r, http.StatusOK, "application/json", map[string]any{"status": "ready"})
	case len(h.Require) > 0:
		return respond(w, r, http.StatusServiceUnavailable, "application/json", map[string]any{"status": "unready", dependencyRedis: "down"})
	default:
		// A shared dependency must not take all gateways out at once.
		return respond(w, r, http.StatusOK, "application/json", map[string]any{"status": "ready", dependencyRedis: "warn"})
	}
}

// details answers in the form of draft-inadarei-api-health-check.
func (h *Handler) details(w http.ResponseWriter, r *http.Request) error {
	status := "pass"
	checks := map[string]any{
		"uptime": []any{map[string]any{"status": "pass", "observedValue": int(time.Since(started).Seconds()), "observedUnit": "s"}},
	}
	if h.redis != nil {
		state := "pass"
		if !h.redis.Up() {
			state, status = "warn", "warn"
		}
		checks["redis:connection"] = []any{map[string]any{"status": state, "componentType": "datastore"}}
		checks["gateway:instances"] = []any{map[string]any{"status": "pass", "observedValue": h.redis.Instances()}}
	}
	if draining(r) {
		status = "warn"
		checks["gateway:draining"] = []any{map[string]any{"status": "warn"}}
	}
	// `healthy` is what the predecessor's clients look for.
	return respond(w, r, http.StatusOK, "application/health+json", map[string]any{
		"status": map[string]string{"pass": "healthy", "warn": "warn"}[status], "checks": checks,
	})
}

func detailed(r *http.Request) bool {
	if r.URL.RawQuery != "" && r.URL.Query().Has("verbose") {
		return true
	}
	for _, accept := range r.Header["Accept"] {
		if strings.Contains(accept, "application/health+json") {
			return true
		}
	}
	return false
}

// draining reports whether the server is shutting down.
func draining(r *http.Request) bool {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	value, _ := repl.Get("http.shutting_down")
	down, _ := value.(bool)
	return down
}

func respond(w http.ResponseWriter, r *http.Request, status int, contentType string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a prober that is gone is no error
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
