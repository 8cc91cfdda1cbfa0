// Package rediscache is the `http_cache` handler: a shared HTTP cache (RFC
// 9111) in the memory of the process and, for all gateways together, in Redis.
package rediscache

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/rediscache/memory"
)

const (
	storeMemory = "memory"
	storeRedis  = "redis"
	storeBoth   = "both"
)

const (
	defaultMaxObject = 1 << 20
	redisBudget      = 20 * time.Millisecond
	maxVariants      = 20
	refreshTimeout   = 30 * time.Second
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler answers GET and HEAD requests from what services answered before. It
// follows the responses' own caching fields, and where a response has none the
// operator's times.
type Handler struct {
	// How long a response with status 200, 203, 301 or 308 is fresh that says
	// nothing about caching. Default: it is not stored.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// The same for other statuses, by status code. Default: none.
	StatusTTL map[int]caddy.Duration `json:"status_ttl,omitempty"`

	// Budget of the memory tier of the whole process in bytes; of several handlers
	// the largest counts. Default: 256MiB.
	Memory int64 `json:"memory,omitempty"`

	// The largest body that is stored, in bytes. Larger ones pass. Default: 1MiB.
	MaxObjectSize int64 `json:"max_object_size,omitempty"`

	// Where responses are kept: `memory`, `redis` or `both`. Default: both, if the
	// app has a Redis, else memory.
	Store string `json:"store,omitempty"`

	// How long a stale response may be used while it is refreshed, where it does
	// not say itself (RFC 5861). Default: not at all.
	StaleWhileRevalidate caddy.Duration `json:"stale_while_revalidate,omitempty"`

	// How long a stale response may be used while the service fails, where it
	// does not say itself (RFC 5861). Default: not at all.
	StaleIfError caddy.Duration `json:"stale_if_error,omitempty"`

	// Keep what may not be shared in a partition of the authenticated user alone.
	// Without it the answer to an authenticated request is only stored if RFC
	// 9111 §3.5 lets everybody have it. Default: false.
	PerUser bool `json:"per_user,omitempty"`

	// Query parameters that are part of the key; others are ignored. Default:
	// the whole query as it stands.
	Query []string `json:"query,omitempty"`

	// Request fields that are part of the key. Default: none.
	KeyHeaders []string `json:"key_headers,omitempty"`

	// Response fields that hold the tags to purge by. Default: Surrogate-Key,
	// Cache-Tag, xkey.
	Tags []string `json:"tags,omitempty"`

	// Who may purge with the PURGE method. Default: nobody.
	PurgeMethod *PurgeMethod `json:"purge_method,omitempty"`

	tiers     *tiers
	ctx       context.Context
	refreshes sync.WaitGroup
}

var defaultTags = []string{"Surrogate-Key", "Cache-Tag", "Xkey"}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.http_cache",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults and finds the tiers of an earlier configuration.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx = ctx
	metrics.Register(ctx.GetMetricsRegistry(), append(tierCollectors(), requests)...)
	a, err := app.Get(ctx)
	if err != nil {
		return err
	}
	if h.Memory == 0 {
		h.Memory = memory.DefaultMaximum
	}
	if h.MaxObjectSize == 0 {
		h.MaxObjectSize = defaultMaxObject
	}
	if len(h.Tags) == 0 {
		h.Tags = defaultTags
	}
	for i, name := range h.Tags {
		h.Tags[i] = http.CanonicalHeaderKey(name)
	}
	for i, name := range h.KeyHeaders {
		h.KeyHeaders[i] = http.CanonicalHeaderKey(name)
	}
	if h.Store == "" {
		h.Store = storeMemory
		if a.Redis() != nil {
			h.Store = storeBoth
		}
	}
	if err := h.check(a); err != nil {
		return err
	}
	if h.PurgeMethod != nil {
		if err := h.PurgeMethod.provision(); err != nil {
			return err
		}
	}
	var settings tierSettings
	if h.Store != storeRedis {
		settings.memory = h.Memory
	}
	if h.Store != storeMemory {
		settings.redis = &secondSettings{budget: redisBudget, maxBody: int(h.MaxObjectSize)}
	}
	h.tiers, err = acquireTiers(a, settings)
	return err
}

func (h *Handler) check(a *app.App) error {
	switch h.Store {
	case storeMemory:
	case storeRedis, storeBoth:
		if a.Redis() == nil {
			return fmt.Errorf("store %s: there is no Redis in this configuration; set REDIS_URL or the global option `tentagate { redis … }`", h.Store)
		}
	default:
		return fmt.Errorf("store %q: accepted are memory, redis and both", h.Store)
	}
	if h.TTL < 0 || h.StaleWhileRevalidate < 0 || h.StaleIfError < 0 || h.Memory < 0 || h.MaxObjectSize < 0 {
		return fmt.Errorf("ttl, stale_while_revalidate, stale_if_error, memory and max_object_size are not negative")
	}
	for status := range h.StatusTTL {
		if status < 200 || status > 599 || status == 206 || status == 304 {
			return fmt.Errorf("ttl %d: it is not the status of a response that can be stored", status)
		}
	}
	for _, name := range h.KeyHeaders {
		if strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "Cookie") {
			return fmt.Errorf("key header %s: use per_user, which separates users whatever they send", name)
		}
	}
	return nil
}

// Cleanup releases the tiers; the next configuration may hold them already.
func (h *Handler) Cleanup() error {
	if h.tiers == nil {
		return nil
	}
	// Their context ended with the configuration's.
	h.refreshes.Wait()
	// A request that outlasts its configuration still finds the tiers.
	return h.tiers.release()
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.serve)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
