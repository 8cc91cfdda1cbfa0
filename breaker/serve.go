package breaker

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/circuit"
	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/problem"
)

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	key := ""
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if h.Key != "" && repl != nil {
		key = repl.ReplaceAll(h.Key, "")
	}
	breaker := h.group.get(key, h)
	permit, wait, ok := breaker.Allow()
	if repl != nil {
		repl.Set("http.circuit_breaker.state", breaker.State().String())
	}
	if !ok {
		if h.Mode == modeObserve {
			count(h.Name, "observed")
			return next.ServeHTTP(w, r)
		}
		return h.refuse(w, r, wait)
	}
	return h.ask(w, r, next, breaker, permit)
}

// refuse answers in place of the backend.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, wait time.Duration) error {
	if h.fallback != nil {
		count(h.Name, "fallback")
		return h.fallback.ServeHTTP(w, r)
	}
	count(h.Name, "rejected")
	seconds := max(int64((wait+time.Second-1)/time.Second), 1)
	fields := w.Header()
	fields.Set("Retry-After", strconv.FormatInt(seconds, 10))
	fields.Set("Proxy-Status", "tentagate; error=destination_unavailable") // RFC 9209 §2.3.4
	fields.Set("Cache-Control", "no-store")
	return problem.Error(problem.New(http.StatusServiceUnavailable, "the service "+h.Name+" has failed too often and is left alone for a while"))
}

// ask lets the request through and tells the breaker how it went.
func (h *Handler) ask(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, breaker *circuit.Breaker, permit circuit.Permit) (err error) {
	began := time.Now()
	body := &clientBody{ReadCloser: r.Body}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = body
	}
	var latency time.Duration
	status, told := 0, false
	grpc := strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
	done := func(o circuit.Outcome) {
		if told {
			return
		}
		told = true
		breaker.Done(permit, o, latency)
		count(h.Name, outcomes[o])
	}
	answer := headers.Before(w, func(_ http.Header, code int) {
		status, latency = code, time.Since(began)
		// A probe has proved what it can when the header is there. It must not
		// hold its place for as long as a stream lasts.
		if permit.Probe() && !grpc && r.Context().Err() == nil {
			done(h.failures.status(code))
		}
	})
	defer func() {
		if panicked := recover(); panicked != nil {
			outcome := circuit.Ignored
			if isAbort(panicked) && h.failures.abort && r.Context().Err() == nil && !body.failed.Load() {
				outcome = circuit.Failure
			}
			done(outcome)
			panic(panicked)
		}
	}()
	err = next.ServeHTTP(answer, r)
	if err == nil && !answer.Sent() {
		status, latency = http.StatusOK, time.Since(began)
	}
	if status == 0 {
		latency = time.Since(began)
	}
	outcome := h.judge(r, body, answer.Header(), status, err, grpc)
	done(outcome)
	if err != nil && outcome == circuit.Ignored && body.failed.Load() && r.Context().Err() == nil && !problem.IsOwn(err) {
		// Caddy takes a body that cannot be read for a fault of the backend.
		if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode >= http.StatusInternalServerError {
			return problem.Error(problem.New(http.StatusBadRequest, "the request body could not be read"))
		}
	}
	return err
}

// judge sorts what happened. Whatever the client caused is ignored: else one
// client could shut everybody out.
func (h *Handler) judge(r *http.Request, body *clientBody, fields http.Header, status int, err error, grpc bool) circuit.Outcome {
	if r.Context().Err() != nil || body.failed.Load() || problem.IsOwn(err) {
		return circuit.Ignored
	}
	if err == nil {
		if grpc && status == http.StatusOK {
			return h.failures.grpc(fields)
		}
		return h.failures.status(status)
	}
	he, ok := errors.AsType[caddyhttp.HandlerError](err)
	switch {
	case !ok:
		return circuit.Ignored // not the backend's
	case he.StatusCode == http.StatusGatewayTimeout:
		return failureIf(h.failures.timeout)
	case he.StatusCode == http.StatusBadGateway || he.StatusCode == http.StatusServiceUnavailable:
		return failureIf(h.failures.transport)
	default:
		return circuit.Ignored
	}
}

var outcomes = map[circuit.Outcome]string{
	circuit.Success: "success", circuit.Neutral: "success", circuit.Failure: "failure", circuit.Ignored: "ignored",
}

// clientBody notes that the request body could not be read, which is never the
// backend's fault.
type clientBody struct {
	io.ReadCloser
	failed atomic.Bool
}

func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	// The transport closes a body that it no longer needs while it still reads.
	if err != nil && err != io.EOF && !errors.Is(err, http.ErrBodyReadAfterClose) {
		b.failed.Store(true)
	}
	return n, err
}

// isAbort reports whether a handler broke off the answer on purpose.
func isAbort(panicked any) bool {
	err, ok := panicked.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}
