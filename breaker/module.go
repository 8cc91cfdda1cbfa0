// Package breaker is the `circuit_breaker` handler: it stops asking a backend
// that fails, probes it now and then, and tells clients when to come back.
package breaker

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/circuit"
	"github.com/pythopus/tentagate/internal/metrics"
	_ "github.com/pythopus/tentagate/internal/order" // registers where the directive stands
	"github.com/pythopus/tentagate/internal/problem"
)

// The modes of a breaker.
const (
	modeEnforce = "enforce"
	modeObserve = "observe"
)

// What can count as a failure besides status codes.
const (
	failTransport = "transport" // the backend could not be reached, or broke off before it answered
	failTimeout   = "timeout"   // it did not answer in time
	failAbort     = "abort"     // it broke off within its answer
)

var defaultFailures = []string{"5xx", failTransport, failTimeout, failAbort}

const (
	defaultMaxKeys = 1000
	defaultOpenFor = 30 * time.Second
	defaultProbes  = 3
	defaultProbing = 30 * time.Second
)

func init() {
	caddy.RegisterModule(&Handler{})
}

// Handler wraps the handlers behind it. It counts what the backend causes,
// never what a client causes, and when the rules ask for it answers 503 at
// once instead of asking the backend.
//
// With no rule given it opens when half of at least 20 requests in 10 seconds
// failed.
type Handler struct {
	// Name of the breaker, for metrics and administration. Handlers with the same
	// name share one state, which survives a reload. Required.
	Name string `json:"name,omitempty"`

	// Placeholders that tell apart the circuits of one breaker, such as
	// `{vars.service}`. Never a raw path: clients choose those. Default: one
	// circuit.
	Key string `json:"key,omitempty"`

	// How many circuits a key may make; the longest unused is forgotten beyond
	// that. Default: 1000.
	MaxKeys int `json:"max_keys,omitempty"`

	// How long results count. Default: 10s.
	Window caddy.Duration `json:"window,omitempty"`

	// Share of failed requests, above 0 to 1, that opens.
	Ratio float64 `json:"ratio,omitempty"`

	// How many requests the window must hold before a share means anything.
	// Default: 20.
	MinRequests int `json:"min_requests,omitempty"`

	// How many failures in a row open.
	Consecutive int `json:"consecutive,omitempty"`

	// Share of slow answers, above 0 to 1, that opens.
	SlowRatio float64 `json:"slow_ratio,omitempty"`

	// Time to the response header beyond which an answer is slow.
	SlowOver caddy.Duration `json:"slow_over,omitempty"`

	// What is a failure: status codes (`502`), classes (`5xx`), `transport`,
	// `timeout` and `abort`. Default: 5xx transport timeout abort.
	Failure []string `json:"failure,omitempty"`

	// How long it is open at first; it doubles with each failed probe. Default:
	// 30s.
	OpenFor caddy.Duration `json:"open_for,omitempty"`

	// The longest it is open. Default: 5m, or `open_for` if that is more.
	OpenMax caddy.Duration `json:"open_max,omitempty"`

	// Share, 0 to 1, by which an open time is lengthened at random, so that
	// replicas do not probe in step. Default: 0.
	Jitter float64 `json:"jitter,omitempty"`

	// How many probes the half-open state lets through at once, and how many must
	// succeed. Default: 3.
	HalfOpen int `json:"half_open,omitempty"`

	// How long probes may take before it opens again. Default: 30s.
	HalfOpenMax caddy.Duration `json:"half_open_max,omitempty"`

	// `enforce`, or `observe` to count and tell but refuse nothing. Default:
	// enforce.
	Mode string `json:"mode,omitempty"`

	// Handlers that answer while it is open. Default: 503 with a problem+json
	// body.
	Open caddyhttp.RouteList `json:"open,omitempty"`

	openSegment *openBlock
	fallback    caddyhttp.Handler
	failures    failureSet
	settings    circuit.Settings
	group       *group
	events      *caddyevents.App
	ctx         caddy.Context
	logger      *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.circuit_breaker",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults and finds the state of an earlier configuration.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx, h.logger = ctx, ctx.Logger()
	metrics.Register(ctx.GetMetricsRegistry(), collectors()...)
	if val, err := ctx.AppIfConfigured("events"); err == nil {
		h.events, _ = val.(*caddyevents.App)
	}
	if len(h.Failure) == 0 {
		h.Failure = slices.Clone(defaultFailures)
	}
	var err error
	if h.failures, err = parseFailures(h.Failure); err != nil {
		return err
	}
	if h.Ratio == 0 && h.Consecutive == 0 && h.SlowRatio == 0 {
		h.Ratio = .5
	}
	defaults(&h.MinRequests, 20)
	defaults(&h.HalfOpen, defaultProbes)
	defaults(&h.MaxKeys, defaultMaxKeys)
	defaults(&h.Window, caddy.Duration(10*time.Second))
	defaults(&h.OpenFor, caddy.Duration(defaultOpenFor))
	defaults(&h.OpenMax, max(caddy.Duration(5*time.Minute), h.OpenFor))
	defaults(&h.HalfOpenMax, caddy.Duration(defaultProbing))
	defaults(&h.Mode, modeEnforce)
	if err := h.check(); err != nil {
		return err
	}
	if len(h.Open) > 0 {
		if err := h.Open.Provision(ctx); err != nil {
			return fmt.Errorf("open: %w", err)
		}
		h.fallback = h.Open.Compile(caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
	}
	h.settings = circuit.Settings{
		Window: time.Duration(h.Window), Ratio: h.Ratio, MinRequests: h.MinRequests, Consecutive: h.Consecutive,
		SlowRatio: h.SlowRatio, SlowOver: time.Duration(h.SlowOver),
		OpenFor: time.Duration(h.OpenFor), OpenMax: time.Duration(h.OpenMax), Jitter: h.Jitter,
		Probes: h.HalfOpen, ProbeMax: time.Duration(h.HalfOpenMax),
	}
	h.group, err = acquire(h.Name)
	if err != nil {
		return err
	}
	return nil
}

func defaults[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// check refuses rules that cannot mean what the operator wants.
func (h *Handler) check() error {
	switch {
	case h.Name == "":
		return errors.New("name: missing: circuit_breaker takes a name, for metrics and administration")
	case h.Ratio < 0 || h.Ratio > 1 || h.SlowRatio < 0 || h.SlowRatio > 1:
		return errors.New("ratio, slow_ratio: a share is above 0 and at most 1")
	case h.SlowRatio > 0 && h.SlowOver <= 0:
		return errors.New("slow: it needs a time, such as `slow 80% over 2s`")
	case h.Jitter < 0 || h.Jitter > 1:
		return errors.New("jitter: a share is 0 to 1")
	case h.MinRequests < 1, h.Consecutive < 0, h.HalfOpen < 1, h.MaxKeys < 1:
		return errors.New("min_requests, half_open and max_keys are at least 1, consecutive is not negative")
	case h.Window <= 0, h.OpenFor <= 0, h.HalfOpenMax <= 0, h.SlowOver < 0:
		return errors.New("window, open_for, half_open_max and slow_over are above zero")
	case h.OpenFor > h.OpenMax:
		return fmt.Errorf("open_for %s: it is longer than its max %s", time.Duration(h.OpenFor), time.Duration(h.OpenMax))
	case h.Mode != modeEnforce && h.Mode != modeObserve:
		return fmt.Errorf("mode %q: accepted are enforce and observe", h.Mode)
	case strings.Contains(h.Key, "uri}") || strings.Contains(h.Key, "path}"):
		return fmt.Errorf("key %q: clients choose paths, and with them could make circuits without end; name what you mean, such as {vars.service}", h.Key)
	}
	return nil
}

// Cleanup releases the state; the next configuration may hold it already.
func (h *Handler) Cleanup() error {
	if h.group == nil {
		return nil
	}
	h.group = nil
	return release(h.Name)
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.serve)
}

// changed tells of a change of state: in the log, the metrics and the events.
func (h *Handler) changed(key string, c circuit.Change) {
	transitions.WithLabelValues(h.Name, c.From.String(), c.To.String()).Inc()
	fields := []zap.Field{
		zap.String("name", h.Name), zap.String("key", key),
		zap.String("from", c.From.String()), zap.String("to", c.To.String()),
	}
	if c.To == circuit.Open {
		h.logger.Warn("circuit breaker opened", append(fields,
			zap.String("rule", c.Rule), zap.Int("requests", c.Total), zap.Int("failures", c.Failures), zap.Int("slow", c.Slow),
			zap.Duration("open_for", c.OpenFor))...)
	} else {
		h.logger.Info("circuit breaker changed", fields...)
	}
	if h.events == nil || h.ctx.Err() != nil {
		return
	}
	name := map[circuit.State]string{
		circuit.Open: "circuit_breaker_opened", circuit.HalfOpen: "circuit_breaker_half_opened", circuit.Closed: "circuit_breaker_closed",
	}[c.To]
	h.events.Emit(h.ctx, name, map[string]any{"name": h.Name, "key": key, "rule": c.Rule})
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
