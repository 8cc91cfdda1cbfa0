package breaker

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/inflight"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/circuitstate"
	"github.com/pythopus/tentagate/internal/clientfault"
	"github.com/pythopus/tentagate/internal/problem"
)

// statePlaceholder has the state that a request met.
const statePlaceholder = "http.circuit_breaker.state"

// stateTexts are the values of the placeholder, boxed once.
var stateTexts = [...]any{circuit.Closed: "closed", circuit.HalfOpen: "half_open", circuit.Open: "open"}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	c := h.member.Circuit(h.key(r, repl))
	state := c.State()
	if repl != nil {
		repl.Set(statePlaceholder, stateTexts[state])
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
	}
	x := &exchange{h: h, r: r, circuit: c, permit: permit, told: !ok, place: place, began: registry.Clock.Now()}
	return x.run(w, next)
}

// refuse answers in place of the backend.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, wait time.Duration) error {
	note(r, "open")
	circuitstate.Refused(r)
	if h.fallback != nil {
		h.member.Count(registry.FellBack)
		return h.fallback.ServeHTTP(w, r)
	}
	h.member.Count(registry.Rejected)
	return unavailable(w, wait, "destination_unavailable", // RFC 9209 §2.3.4
		"the service "+h.Name+" has failed too often and is left alone for a while")
}

// limited answers where too many requests are under way.
func (h *Handler) limited(w http.ResponseWriter, r *http.Request, err error) error {
	if registry.Gone(r) {
		h.member.Count(registry.Ignored)
		w.WriteHeader(statusClientGone)
		return nil
	}
	note(r, "limited")
	circuitstate.Refused(r)
	h.member.Count(registry.Limited)
	detail := "the service " + h.Name + " has as many requests as it can take"
	if errors.Is(err, inflight.ErrWaited) {
		detail += ", and none ended in time"
	}
	return unavailable(w, 0, "connection_limit_reached", detail) // RFC 9209 §2.3.12
}

// statusClientGone is what Caddy has in its logs for a client that went away.
const statusClientGone = 499

func unavailable(w http.ResponseWriter, wait time.Duration, kind, detail string) error {
	fields := w.Header()
	fields.Set("Retry-After", registry.RetryAfter(wait))
	fields.Set("Proxy-Status", "tentagate; error="+kind)
	fields.Set("Cache-Control", "no-store")
	return problem.Error(problem.New(http.StatusServiceUnavailable, detail))
}

// note puts the reason of a refusal into the access log.
func note(r *http.Request, reason string) {
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(registry.LogField(reason))
	}
}

// judge sorts what came back from the handlers behind. Whatever the client
// caused is ignored: else one client could shut everybody out. So is what the
// gateway answers by itself.
func (x *exchange) judge(err error) circuit.Outcome {
	if registry.Gone(x.r) || x.body.Failed() || problem.IsOwn(err) {
		return circuit.Ignored
	}
	failures := x.h.member.Failures()
	if x.refused != nil {
		if _, ok := errors.AsType[*badStatusError](x.refused); ok {
			return failures.Error(http.StatusBadGateway)
		}
		return circuit.Ignored
	}
	if err == nil {
		if x.grpc && x.status == http.StatusOK {
			if outcome, ok := failures.GRPC(x.r, x.Header()); ok {
				return outcome
			}
		}
		return x.sort(x.status)
	}
	if _, ok := registry.AsOpen(err); ok {
		return circuit.Ignored // refused by the transport
	}
	he, ok := errors.AsType[caddyhttp.HandlerError](err)
	if !ok || registry.OwnRefusal(he) || clientfault.Refused(he.Err) || x.heldUp() {
		return circuit.Ignored // not the backend's
	}
	return failures.Error(he.StatusCode)
}

// sort sorts an answer. A backend that loses its patience with a client has not
// failed.
func (x *exchange) sort(status int) circuit.Outcome {
	outcome := x.h.member.Failures().Status(status)
	if outcome == circuit.Failure && x.heldUp() {
		return circuit.Ignored
	}
	return outcome
}

func (x *exchange) heldUp() bool {
	return registry.HeldUp(x.body.Waited(), registry.Clock.Since(x.began))
}

// answerFor replaces errors with which Caddy blames the backend for what it did
// not do.
func (x *exchange) answerFor(w http.ResponseWriter, err error) error {
	if x.Sent() {
		return err
	}
	if x.refused != nil {
		for _, name := range []string{"Content-Length", "Retry-After", "Proxy-Status", "Cache-Control"} {
			w.Header().Del(name) // of the answer that is replaced
		}
	}
	if err == nil {
		return nil
	}
	if open, ok := registry.AsOpen(err); ok {
		return x.h.refuseUpstream(w, x.r, open)
	}
	if problem.IsOwn(err) || registry.Gone(x.r) {
		return err
	}
	if _, ok := errors.AsType[*badStatusError](err); ok {
		return problem.Error(problem.New(http.StatusBadGateway, "the service answered with a status that HTTP does not have"))
	}
	if fault, ok := errors.AsType[*clientfault.Error](err); ok {
		return problem.Error(clientfault.Problem(fault))
	}
	he, ok := errors.AsType[caddyhttp.HandlerError](err)
	if !ok || he.StatusCode < http.StatusInternalServerError {
		return err
	}
	switch {
	case x.body.Failed():
		return problem.Error(clientfault.Problem(x.body.Fault()))
	case clientfault.Refused(he.Err):
		return problem.Error(clientfault.Problem(clientfault.Unsendable(he.Err)))
	}
	return err
}

// refuseUpstream answers where the transport found no upstream that it would
// ask.
func (h *Handler) refuseUpstream(w http.ResponseWriter, r *http.Request, open *registry.OpenError) error {
	note(r, "upstream_open")
	circuitstate.Refused(r)
	if h.fallback != nil {
		h.member.Count(registry.FellBack)
		return h.fallback.ServeHTTP(w, r)
	}
	h.member.Count(registry.Rejected)
	return unavailable(w, open.Wait, "destination_unavailable", "all backends of the service "+h.Name+" have failed too often and are left alone for a while")
}

// streams reports whether the answer may last as long as the client wants, so
// that waiting for its end would tell nothing of the backend for hours.
func streams(fields http.Header, status int) bool {
	return status == http.StatusSwitchingProtocols ||
		strings.HasPrefix(fields.Get("Content-Type"), "text/event-stream") ||
		caddyhttp.IsIncremental(fields)
}
