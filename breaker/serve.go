package breaker

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/circuit"
	"github.com/pythopus/tentagate/breaker/inflight"
	"github.com/pythopus/tentagate/breaker/registry"
	"github.com/pythopus/tentagate/internal/circuitstate"
	"github.com/pythopus/tentagate/internal/problem"
)

// statePlaceholder has the state that a request met.
const statePlaceholder = "http.circuit_breaker.state"

// stateTexts are the values of the placeholder, boxed once.
var stateTexts = [...]any{circuit.Closed: "closed", circuit.HalfOpen: "half_open", circuit.Open: "open"}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	key := ""
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if h.Key != "" && repl != nil {
		key = repl.ReplaceAll(h.Key, "")
	}
	c := h.member.Circuit(key)
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
	fields.Set("Retry-After", strconv.FormatInt(max(int64((wait+time.Second-1)/time.Second), 1), 10))
	fields.Set("Proxy-Status", "tentagate; error="+kind)
	fields.Set("Cache-Control", "no-store")
	return problem.Error(problem.New(http.StatusServiceUnavailable, detail))
}

// note puts the reason of a refusal into the access log.
func note(r *http.Request, reason string) {
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Add(logField(reason))
	}
}

// judge sorts what came back from the handlers behind. Whatever the client
// caused is ignored: else one client could shut everybody out.
func (x *exchange) judge(err error) circuit.Outcome {
	if registry.Gone(x.r) || x.body.Failed() || problem.IsOwn(err) {
		return circuit.Ignored
	}
	failures := x.h.member.Failures()
	if err == nil {
		if x.grpc && x.status == http.StatusOK {
			if outcome, ok := failures.GRPC(x.Header()); ok {
				return outcome
			}
		}
		return failures.Status(x.status)
	}
	if _, ok := registry.AsOpen(err); ok {
		return circuit.Ignored // refused by the transport
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && !registry.HeldUp(x.body.Waited(), registry.Clock.Since(x.began)) {
		return failures.Error(he.StatusCode)
	}
	return circuit.Ignored // not the backend's
}

// answerFor replaces errors with which Caddy blames the backend for what it did
// not do.
func (x *exchange) answerFor(w http.ResponseWriter, err error) error {
	if err == nil || x.Sent() {
		return err
	}
	if open, ok := registry.AsOpen(err); ok {
		return x.h.refuseUpstream(w, x.r, open)
	}
	if x.body.Failed() && !registry.Gone(x.r) && !problem.IsOwn(err) {
		if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode >= http.StatusInternalServerError {
			return problem.Error(problem.New(http.StatusBadRequest, "the request body could not be read"))
		}
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
