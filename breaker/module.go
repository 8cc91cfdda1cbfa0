// Package breaker is the `circuit_breaker` handler: it stops sending requests to a
// failing backend, probes it from time to time, and tells clients when to retry. It
// includes the transport `tentagate` and the selection policy `available` of
// reverse_proxy, which do the same for each upstream.
package breaker

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/inflight"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	_ "github.com/pythopus/tentagate/breaker/upstream" // the transport, the policy and the slot
	_ "github.com/pythopus/tentagate/internal/order"   // registers where the directive stands
	"github.com/pythopus/tentagate/internal/place"
	"github.com/pythopus/tentagate/internal/resolve"
)

// The modes of a breaker.
const (
	modeEnforce = "enforce"
	modeObserve = "observe"
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler wraps the handlers behind it. It counts failures of the backend, never
// those that a client causes, and while its circuit is open answers 503 at once.
//
// The placeholder `{http.circuit_breaker.state}` is the state when the request
// came: `closed`, `open` or `half_open`.
//
//	circuit_breaker users {
//		consecutive 5
//		open_for 30s
//	}
//	reverse_proxy users:8000
type Handler struct {
	// Name of the breaker, for metrics and administration. Handlers with the same
	// name share one state, which survives a reload, and need the same rules.
	// Required.
	Name string `json:"name,omitempty"`

	// Placeholders whose values each have a circuit, such as `{vars.service}`. Paths
	// and users are refused, as clients choose them. Default: one circuit.
	Key string `json:"key,omitempty"`

	// The most circuits; beyond that the longest unused is removed, closed ones
	// first. Default: 1000.
	MaxKeys int `json:"max_keys,omitempty"`

	registry.Rules

	// Limits the requests in flight. Default: no limit.
	MaxInflight *MaxInflight `json:"max_inflight,omitempty"`

	// `enforce`, or `observe` to count and log but refuse nothing. Default:
	// enforce.
	Mode string `json:"mode,omitempty"`

	// Share openings with other gateways through Redis: while the circuit of another
	// gateway is open, half of `min_requests` is enough here. A hint alone never opens
	// a circuit. Without Redis this has no effect. Default: false.
	Share bool `json:"share,omitempty"`

	// Handlers that answer while the circuit is open. Default: 503 with a
	// problem+json body.
	Open caddyhttp.RouteList `json:"open,omitempty"`

	// Position in the Caddyfile, for errors.
	Position string `json:"position,omitempty"`

	openSegment *openBlock
	keyParts    []keyPart
	fallback    caddyhttp.Handler
	member      *registry.Member
}

// MaxInflight limits the requests in flight of each circuit.
type MaxInflight struct {
	// The limit, with `adaptive` the highest. Required; with `adaptive`, default:
	// 1000.
	Max int `json:"max,omitempty"`

	// Find the limit from the backend's latency: it falls when answers take longer
	// the more requests there are. A request is then in flight until the response
	// header has come. Default: false.
	Adaptive bool `json:"adaptive,omitempty"`

	// The lowest limit of `adaptive`. Default: 10.
	Min int `json:"min,omitempty"`

	// How many more requests may wait. Default: 0.
	Queue int `json:"queue,omitempty"`

	// How long a request may wait. Default: 100ms.
	QueueWait caddy.Duration `json:"queue_wait,omitempty"`
}

// Defaults of MaxInflight.
const (
	defaultAdaptiveMin = 10
	defaultAdaptiveMax = 1000
	defaultQueueWait   = 100 * time.Millisecond
)

// maxInflight is the largest limit, more than a gateway could have in flight.
const maxInflight = 10_000_000

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.circuit_breaker",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults and finds the state of an earlier configuration.
func (h *Handler) Provision(ctx caddy.Context) error {
	return place.Error(ctx, "circuit_breaker", h.Position, h.provision(ctx))
}

func (h *Handler) provision(ctx caddy.Context) error {
	h.Mode = cmp.Or(h.Mode, modeEnforce)
	bound, err := h.MaxInflight.settings()
	if err != nil {
		return err
	}
	if h.Key, err = resolve.Request(ctx, "key", h.Key); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	h.keyParts = parseKey(ctx, h.Key)
	if len(h.Open) > 0 {
		if err := h.Open.Provision(ctx); err != nil {
			return fmt.Errorf("open: %w", err)
		}
		h.fallback = h.Open.Compile(caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
	}
	h.member, err = registry.Join(ctx, registry.Options{
		Scope: registry.Service, Name: h.Name, MaxKeys: h.MaxKeys, Inflight: bound, Share: h.Share,
		Observe: h.Mode == modeObserve, Position: h.Position,
	}, &h.Rules)
	return err
}

// check refuses invalid options.
func (h *Handler) check() error {
	switch {
	case h.MaxKeys < 0 || h.MaxKeys > registry.MaxKeys:
		return fmt.Errorf("max_keys %d: accepted are 1 to %d", h.MaxKeys, registry.MaxKeys)
	case h.MaxKeys > 0 && h.Key == "":
		return errors.New("max_keys: it has no effect without key: there is one circuit")
	case h.Mode != modeEnforce && h.Mode != modeObserve:
		return fmt.Errorf("mode %q: accepted are enforce and observe", h.Mode)
	}
	return checkKey(h.Key)
}

// settings sets the defaults and checks the result. It may be called on nil.
func (m *MaxInflight) settings() (s inflight.Settings, err error) {
	if m == nil {
		return s, nil
	}
	s = inflight.Settings{
		Max: m.Max, Adaptive: m.Adaptive, Min: m.Min, Queue: m.Queue, QueueWait: time.Duration(m.QueueWait),
	}
	if m.Adaptive {
		s.Max = cmp.Or(s.Max, defaultAdaptiveMax)
		s.Min = cmp.Or(s.Min, min(defaultAdaptiveMin, s.Max))
	}
	s.QueueWait = cmp.Or(s.QueueWait, defaultQueueWait)
	switch {
	case s.Max < 1 || s.Max > maxInflight:
		return s, fmt.Errorf("max_inflight %d: accepted are 1 to %d requests", s.Max, maxInflight)
	case s.Queue < 0 || s.Queue > maxInflight:
		return s, fmt.Errorf("max_inflight: queue %d: accepted are 0 to %d requests", s.Queue, maxInflight)
	case s.QueueWait < 0 || s.QueueWait > time.Hour:
		return s, fmt.Errorf("max_inflight: queue_wait %s: accepted are durations up to 1h", s.QueueWait)
	case !s.Adaptive && s.Min != 0:
		return s, fmt.Errorf("max_inflight: min %d has no effect without adaptive: leave it out", s.Min)
	case s.Min < 0 || s.Min > s.Max:
		return s, fmt.Errorf("max_inflight: min %d: accepted are 1 to max, which is %d", s.Min, s.Max)
	}
	return s, nil
}

// Cleanup releases the state, which a newer configuration may be using.
func (h *Handler) Cleanup() error { return h.member.Leave() }

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
