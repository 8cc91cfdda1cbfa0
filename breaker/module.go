// Package breaker is the `circuit_breaker` handler: it stops asking a backend
// that fails, probes it now and then, and tells clients when to come back. With
// it come the transport `tentagate` and the selection policy `available` of
// reverse_proxy, which do the same for each upstream.
package breaker

import (
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

// Handler wraps the handlers behind it. It counts what the backend causes,
// never what a client causes, and when the rules ask for it answers 503 at
// once instead of asking the backend.
//
// The placeholder `{http.circuit_breaker.state}` has the state that a request
// met: `closed`, `open` or `half_open`.
type Handler struct {
	// Name of the breaker, for metrics and administration. Handlers with the same
	// name share one state, which survives a reload, and must have the same rules.
	// Required.
	Name string `json:"name,omitempty"`

	// Placeholders that tell apart the circuits of one breaker, such as
	// `{vars.service}`. Never a raw path: clients choose those. Default: one
	// circuit.
	Key string `json:"key,omitempty"`

	// How many circuits a key may make; beyond that the longest unused is
	// forgotten, closed ones first. Default: 1000.
	MaxKeys int `json:"max_keys,omitempty"`

	registry.Rules

	// Bounds how many requests are under way. Default: no bound.
	MaxInflight *MaxInflight `json:"max_inflight,omitempty"`

	// `enforce`, or `observe` to count and tell but refuse nothing. Default:
	// enforce.
	Mode string `json:"mode,omitempty"`

	// Tell other gateways, through Redis, of openings, and need half of
	// `min_requests` for as long as another gateway says that the backend fails.
	// None opens because another did. Without Redis this does nothing. Default:
	// false.
	Share bool `json:"share,omitempty"`

	// Handlers that answer while it is open. Default: 503 with a problem+json
	// body.
	Open caddyhttp.RouteList `json:"open,omitempty"`

	// Where the Caddyfile has the directive; errors name it.
	Position string `json:"position,omitempty"`

	openSegment *openBlock
	keyParts    []keyPart
	fallback    caddyhttp.Handler
	member      *registry.Member
}

// MaxInflight bounds how many requests are under way, for each circuit.
type MaxInflight struct {
	// How many requests may be under way; with `adaptive`, at most. Default with
	// `adaptive`: 1000, else required.
	Max int `json:"max,omitempty"`

	// Find the bound from the backend's latency: it falls when answers take longer
	// the more requests there are. A request is then under way until the response
	// header has come. Default: false.
	Adaptive bool `json:"adaptive,omitempty"`

	// The least that `adaptive` goes down to. Default: 10.
	Min int `json:"min,omitempty"`

	// How many more requests may wait for a place. Default: 0.
	Queue int `json:"queue,omitempty"`

	// How long they may wait. Default: 100ms.
	QueueWait caddy.Duration `json:"queue_wait,omitempty"`
}

// Defaults of MaxInflight.
const (
	defaultAdaptiveMin = 10
	defaultAdaptiveMax = 1000
	defaultQueueWait   = 100 * time.Millisecond
)

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
	if h.Mode == "" {
		h.Mode = modeEnforce
	}
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

// check refuses what cannot mean what the operator wants.
func (h *Handler) check() error {
	switch {
	case h.MaxKeys < 0:
		return fmt.Errorf("max_keys %d: it is at least 1", h.MaxKeys)
	case h.Mode != modeEnforce && h.Mode != modeObserve:
		return fmt.Errorf("mode %q: accepted are enforce and observe", h.Mode)
	}
	h.keyParts = parseKey(h.Key)
	return checkKey(h.Key)
}

// settings checks the bound and completes it. It may be called on nil.
func (m *MaxInflight) settings() (s inflight.Settings, err error) {
	if m == nil {
		return s, nil
	}
	s = inflight.Settings{
		Max: m.Max, Adaptive: m.Adaptive, Min: m.Min, Queue: m.Queue, QueueWait: time.Duration(m.QueueWait),
	}
	if m.Adaptive {
		if s.Max == 0 {
			s.Max = defaultAdaptiveMax
		}
		if s.Min == 0 {
			s.Min = min(defaultAdaptiveMin, s.Max)
		}
	}
	if s.QueueWait == 0 {
		s.QueueWait = defaultQueueWait
	}
	switch {
	case s.Max < 1:
		return s, errors.New("max_inflight: it is at least 1")
	case !s.Adaptive && s.Min != 0:
		return s, errors.New("max_inflight: min is for adaptive")
	case s.Min < 0 || s.Min > s.Max:
		return s, fmt.Errorf("max_inflight: min %d is not from 1 to max %d", s.Min, s.Max)
	case s.Queue < 0 || s.QueueWait < 0:
		return s, errors.New("max_inflight: queue and its time are not negative")
	}
	return s, nil
}

// Cleanup releases the state; the next configuration may hold it already.
func (h *Handler) Cleanup() error { return h.member.Leave() }

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
