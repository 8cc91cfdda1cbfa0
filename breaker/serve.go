package breaker

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/exchange"
	"github.com/pythopus/tentagate/breaker/internal/inflight"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/circuitstate"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/stage"
)

// statePlaceholder has the state that a request met.
const statePlaceholder = "http.circuit_breaker.state"

// stateTexts are the values of the placeholder, boxed once.
var stateTexts = [...]any{circuit.Closed: "closed", circuit.HalfOpen: "half_open", circuit.Open: "open"}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.serve)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	record := requeststate.Of(r)
	if record != nil {
		record.Decisions.Stages.Enter(stage.Upstream)
		accesslog.Add(r, record)
	}
	c := h.member.Circuit(h.key(r, repl))
	state := c.State()
	if repl != nil {
		repl.Set(statePlaceholder, stateTexts[state])
	}
	if record != nil {
		record.Decisions.Circuit = state.String()
	}
	var place inflight.Place
	if limiter := c.Limiter(); limiter != nil && (state != circuit.Open || h.Mode == modeObserve) {
		var err error
		if place, err = limiter.Acquire(r.Context()); err != nil {
			if h.Mode != modeObserve {
				return h.limited(w, r, err)
			}
			h.member.Count(registry.Observed)
		} else {
			defer place.Release()
		}
	}
	permit, wait, ok := c.Allow()
	if !ok {
		if h.Mode != modeObserve {
			return h.refuse(w, r, wait)
		}
		h.member.Count(registry.Observed)
		c = nil // it does not count what it would not have admitted
	}
	o := &observer{h: h, place: place}
	o.Begin(r, h.member, c, permit)
	return o.run(w, next)
}

// Breaker returns the name of the circuit breaker, and the worst state of its circuits,
// for the status of the service behind it.
func (h *Handler) Breaker() (name, state string) { return h.Name, h.member.Worst().String() }

// refuse answers in place of the backend while the circuit is open.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, wait time.Duration) error {
	return h.refuseOpen(w, r, "open", wait, h.openDetail())
}

func (h *Handler) openDetail() string {
	return "the service " + h.Name + " is temporarily unavailable (circuit open)"
}

// refuseUpstream answers where the circuits of all upstreams refused the
// request.
func (h *Handler) refuseUpstream(w http.ResponseWriter, r *http.Request, open *registry.OpenError) error {
	return h.refuseOpen(w, r, "upstream_open", open.Wait, h.upstreamsOpenDetail())
}

func (h *Handler) upstreamsOpenDetail() string {
	return "all upstreams of the service " + h.Name + " are temporarily unavailable (circuit open)"
}

func (h *Handler) refuseOpen(w http.ResponseWriter, r *http.Request, reason string, wait time.Duration, detail string) error {
	circuitstate.Refused(r, reason)
	if h.fallback != nil {
		h.member.Count(registry.FellBack)
		return h.fallback.ServeHTTP(w, r)
	}
	h.member.Count(registry.Rejected)
	return unavailable(w, wait, kindOpen, detail)
}

// limited answers where too many requests are in flight.
func (h *Handler) limited(w http.ResponseWriter, r *http.Request, err error) error {
	if exchange.ClientCanceled(r) {
		h.member.Count(registry.Ignored)
		w.WriteHeader(requeststate.StatusClientClosed)
		return nil
	}
	circuitstate.Refused(r, "limited")
	h.member.Count(registry.Limited)
	detail := h.fullDetail()
	if errors.Is(err, inflight.ErrTimeout) {
		detail += ", and none finished in time"
	}
	return unavailable(w, 0, kindFull, detail)
}

func (h *Handler) fullDetail() string {
	return "the service " + h.Name + " has reached its limit of concurrent requests"
}

// Proxy error types (RFC 9209 §2.3.4, §2.3.12).
const (
	kindOpen = "destination_unavailable"
	kindFull = "connection_limit_reached"
)

func unavailable(w http.ResponseWriter, wait time.Duration, kind, detail string) error {
	fields := w.Header()
	fields.Set("Retry-After", registry.RetryAfter(wait))
	fields.Set("Proxy-Status", "tentagate; error="+kind)
	fields.Set("Cache-Control", "no-store")
	return problem.Error(problem.New(http.StatusServiceUnavailable, detail))
}
