package breaker

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/inflight"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/headers"
)

// exchange is a request that was let through, and its answer.
type exchange struct {
	headers.Writer

	h       *Handler
	r       *http.Request
	circuit *registry.Circuit
	permit  circuit.Permit
	place   inflight.Place // nil without max_inflight
	own     registry.OwnMark
	body    registry.Body
	began   time.Time

	status     int
	answered   time.Time     // when the header came
	held       time.Duration // how long the client let the answer wait
	latency    time.Duration
	retryAfter time.Duration
	grpc       bool
	told       bool  // the circuit knows the result, or does not want it
	unwritable bool  // the client does not take the answer
	refused    error // the answer that takes the place of the one that reverse_proxy began
}

// run lets the request through and tells the circuit how it went.
func (x *exchange) run(w http.ResponseWriter, next caddyhttp.Handler) (err error) {
	x.Writer.Init(w, x)
	registry.WatchOwn(x.r, &x.own)
	x.grpc = strings.HasPrefix(x.r.Header.Get("Content-Type"), "application/grpc")
	if registry.Wraps(x.r) {
		x.body.ReadCloser = x.r.Body
		if x.permit.Probe() {
			x.circuit.Uploading(x.permit, true)
			x.body.Ended = func() { x.circuit.Uploading(x.permit, false) }
		}
		x.r.Body = &x.body
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		// A panic, or the end of the goroutine, passes through; the permit must not
		// be lost with it.
		panicked := recover()
		outcome := circuit.Ignored
		if isAbort(panicked) && !registry.Gone(x.r) && !x.body.Failed() && !x.unwritable &&
			!registry.HeldUp(x.held, registry.Clock.Since(x.answered)) {
			outcome = x.h.member.Failures().Abort()
		}
		x.done(outcome, nil)
		if panicked != nil {
			panic(panicked)
		}
	}()
	err = next.ServeHTTP(x, x.r)
	returned = true
	if !x.Sent() {
		x.latency = x.elapsed()
		if err == nil && x.refused == nil {
			x.status = http.StatusOK
		}
	}
	outcome := x.judge(err)
	if err == nil {
		err = x.refused
	}
	x.done(outcome, err)
	return x.answerFor(w, err)
}

// WriteHeader passes the header on, unless the answer is none that a backend
// gave.
func (x *exchange) WriteHeader(status int) {
	if x.refused == nil && !x.Sent() {
		x.refused = x.refusal(status)
	}
	if x.refused == nil {
		x.Writer.WriteHeader(status)
	}
}

// refusal returns the error that replaces an answer, or nil.
func (x *exchange) refusal(status int) error {
	if own := registry.OwnAnswer(x.r, status); own != nil {
		return cmp.Or[error](own.Fault, own.Open)
	}
	switch {
	case status == statusClientGone && x.body.Failed() && !registry.Gone(x.r):
		// reverse_proxy takes a body that cannot be read for a client that left.
		return x.body.Fault()
	case status < 100 || status > 999:
		// Go's server panics. RFC 9110 §15 has no such status.
		return &badStatusError{status}
	}
	return nil
}

// badStatusError is an answer of a backend without a status that can be sent on.
type badStatusError struct{ status int }

func (e *badStatusError) Error() string {
	return fmt.Sprintf("the backend answered with the status %03d", e.status)
}

// elapsed is the time since the request began, without that for which the
// client let the gateway wait.
func (x *exchange) elapsed() time.Duration {
	return max(registry.Clock.Since(x.began)-x.body.Waited(), 0)
}

// BeforeHeader is called when the response header has come.
func (x *exchange) BeforeHeader(fields http.Header, status int) {
	x.answered = registry.Clock.Now()
	x.status, x.latency = status, max(x.answered.Sub(x.began)-x.body.Waited(), 0)
	failures := x.h.member.Failures()
	x.retryAfter = failures.RetryAfter(fields, x.began)
	gone := registry.Gone(x.r)
	if x.place != nil {
		ok := !gone && failures.Status(status) == circuit.Success
		x.place.Header(ok && x.body.Waited() <= x.latency/10)
	}
	if x.told || gone || x.body.Failed() {
		return
	}
	switch {
	case x.grpc && status == http.StatusOK:
		// The status of a call is in the trailer, unless it is all there is. For a
		// probe, that the call was begun is enough: it may be a stream.
		if outcome, known := failures.GRPC(x.r, fields); known || x.permit.Probe() {
			x.done(outcome, nil)
		}
	case x.permit.Probe() || streams(fields, status):
		// A probe has proved what it can when the header is there. It must not
		// hold its place for as long as a stream lasts.
		x.done(x.sort(status), nil)
	}
}

// done tells the circuit the result, the first time that it is called.
func (x *exchange) done(outcome circuit.Outcome, err error) {
	if x.told {
		return
	}
	x.told = true
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.Err != nil {
		err = he.Err // it says what happened, without the place in Caddy's code
	}
	result := circuit.Result{Outcome: outcome, Latency: x.latency, RetryAfter: x.retryAfter, Status: x.status, Err: err}
	if outcome == circuit.Ignored && (!x.Sent() || x.status == statusClientGone) && registry.Gone(x.r) && !x.body.Failed() {
		result.Unanswered, result.Status = x.latency, 0
	}
	x.circuit.Done(x.permit, result)
	x.h.member.CountResult(result)
}

// Write notes that the client does not take the answer, or takes its time: that
// the proxy breaks off then is not the backend's fault.
func (x *exchange) Write(p []byte) (int, error) {
	if x.refused != nil {
		return len(p), nil
	}
	began := registry.Clock.Now()
	n, err := x.Writer.Write(p)
	x.taken(began, err)
	return n, err
}

// FlushError notes the same.
func (x *exchange) FlushError() error {
	if x.refused != nil {
		return nil
	}
	began := registry.Clock.Now()
	err := x.Writer.FlushError()
	x.taken(began, err)
	return err
}

// ReadFrom keeps the way open for sendfile.
func (x *exchange) ReadFrom(r io.Reader) (int64, error) {
	if x.refused != nil {
		return io.Copy(io.Discard, r)
	}
	return x.Writer.ReadFrom(r)
}

func (x *exchange) taken(began time.Time, err error) {
	x.held += registry.Clock.Since(began)
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		x.unwritable = true
	}
}

// isAbort reports whether a handler broke off the answer on purpose.
func isAbort(panicked any) bool {
	err, ok := panicked.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}
