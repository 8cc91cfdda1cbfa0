// Package exchange observes one request to a backend and its answer, and reports to
// the circuit who failed: the backend, the client, or nobody. The handler
// circuit_breaker observes what passes through it, the transport what it sends;
// both go by the same rules.
package exchange

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/clientfault"
	"github.com/pythopus/tentagate/internal/framing"
)

// Exchange is a request to a backend and its answer. The first outcome is reported
// to the circuit, later ones are dropped.
type Exchange struct {
	Request *http.Request
	Body    Body // of the request

	member  *registry.Member
	circuit *registry.Circuit // nil: outcomes are not counted
	permit  circuit.Permit

	began    time.Time
	answered time.Time // when the response header came, or zero
	status   int       // of the answer, or 0
	latency  time.Duration
	retry    time.Duration // the Retry-After of the answer
	grpc     bool
	canceled bool // the client had left when the header came
	reported atomic.Bool
}

// Begin starts the observation. Without a circuit nothing is reported, and the
// member is not needed.
func (x *Exchange) Begin(r *http.Request, m *registry.Member, c *registry.Circuit, p circuit.Permit) {
	x.Request, x.member, x.circuit, x.permit, x.began = r, m, c, p, registry.Now()
}

// ObservedBody returns the body to send in place of the request's own. A probe
// that waits for its client's upload keeps no other from probing.
func (x *Exchange) ObservedBody() io.ReadCloser {
	if !HasBody(x.Request) {
		return x.Request.Body
	}
	x.Body.ReadCloser = x.Request.Body
	if x.permit.Probe() {
		x.circuit.Uploading(x.permit, true)
		x.Body.Ended = func() { x.circuit.Uploading(x.permit, false) }
	}
	return &x.Body
}

// Answered notes the response header. A failure counts from here on, whatever
// the client does next. So does anything that a probe brings, which has proved
// what it can and must not keep its place for as long as a stream lasts.
func (x *Exchange) Answered(status int, fields http.Header) {
	x.answered, x.status = registry.Now(), status
	x.latency = max(x.answered.Sub(x.began)-x.Body.Waited(), 0)
	if x.circuit == nil {
		return
	}
	failures := x.member.Failures()
	x.retry = failures.RetryAfter(fields, x.began)
	x.grpc = status == http.StatusOK && (isGRPC(x.Request.Header) || isGRPC(fields))
	if x.canceled = ClientCanceled(x.Request) || x.Body.Failed(); x.canceled {
		return
	}
	if x.grpc {
		// The status of a call is in the trailer, unless it is all there is. That
		// a probe's call began is enough: it may be a stream.
		if outcome, known := failures.GRPC(x.Request, fields); known || x.permit.Probe() {
			x.report(circuit.Result{Outcome: outcome})
		}
		return
	}
	if outcome := x.byStatus(); outcome == circuit.Failure || x.permit.Probe() || endless(fields, status) {
		x.report(circuit.Result{Outcome: outcome})
	}
}

// Ended notes that the answer, whose header came, ended as it should.
func (x *Exchange) Ended(trailer http.Header) {
	if x.circuit == nil {
		return
	}
	outcome := x.byStatus()
	if x.grpc {
		if status, known := x.member.Failures().GRPC(x.Request, trailer); known {
			outcome = status
		}
	}
	if x.canceled {
		outcome = circuit.Ignored
	}
	x.report(circuit.Result{Outcome: outcome})
}

// Aborted notes that the answer broke off. delayed is the part of the time since
// its header that was spent waiting for the client.
func (x *Exchange) Aborted(delayed time.Duration) {
	if x.circuit == nil {
		return
	}
	outcome := circuit.Ignored
	if !ClientCanceled(x.Request) && !x.Body.Failed() && !delayedByClient(delayed, registry.Since(x.answered)) {
		outcome = x.member.Failures().Abort()
	}
	x.report(circuit.Result{Outcome: outcome})
}

// Failed notes that no answer came, for a reason that is not the client's. It
// has the outcome, unless the backend waited for the client most of the time.
func (x *Exchange) Failed(err error, outcome circuit.Outcome) {
	if delayedByClient(x.Body.Waited(), registry.Since(x.began)) {
		outcome = circuit.Ignored
	}
	x.finish(circuit.Result{Outcome: outcome, Err: cause(err)})
}

// Canceled notes that the client left before an answer came.
func (x *Exchange) Canceled() {
	x.status = 0
	result := circuit.Result{Outcome: circuit.Ignored}
	if !x.Body.Failed() {
		result.Unanswered = x.elapsed()
	}
	x.finish(result)
}

// Ignore notes that what came of the request says nothing of the backend.
func (x *Exchange) Ignore() { x.finish(circuit.Result{Outcome: circuit.Ignored}) }

// finish reports a result whose latency is counted until now where there is no
// header.
func (x *Exchange) finish(result circuit.Result) {
	if x.answered.IsZero() {
		x.latency = x.elapsed()
	}
	x.report(result)
}

// report reports the outcome to the circuit, once.
func (x *Exchange) report(result circuit.Result) {
	if x.circuit == nil || !x.reported.CompareAndSwap(false, true) {
		return
	}
	result.Status, result.Latency, result.RetryAfter = x.status, x.latency, x.retry
	x.circuit.Done(x.permit, result)
	x.member.CountResult(result)
}

// Reported reports whether there is nothing more to observe.
func (x *Exchange) Reported() bool { return x.circuit == nil || x.reported.Load() }

// MeasuresBackend reports whether the time to the header was the backend's
// alone, and ended in a success.
func (x *Exchange) MeasuresBackend() bool {
	return !ClientCanceled(x.Request) && x.member.Failures().Status(x.status) == circuit.Success && x.Body.Waited() <= x.latency/10
}

// SinceAnswer returns the time since the header came.
func (x *Exchange) SinceAnswer() time.Duration { return registry.Since(x.answered) }

// elapsed is the time since the request began, without that for which the
// gateway waited for the client.
func (x *Exchange) elapsed() time.Duration { return max(registry.Since(x.began)-x.Body.Waited(), 0) }

// byStatus classifies the answer by its status. A backend that gives up on a
// client which does not send its body has not failed.
func (x *Exchange) byStatus() circuit.Outcome {
	outcome := x.member.Failures().Status(x.status)
	if outcome == circuit.Failure && delayedByClient(x.Body.Waited(), x.answered.Sub(x.began)) {
		return circuit.Ignored
	}
	return outcome
}

// ClientFault returns what the client did wrong if that is why a request failed
// with err, and whether the client left. Go's server cancels the request of a
// body that does not arrive in time as if its client had left.
func (x *Exchange) ClientFault(err error) (fault *clientfault.Error, left bool) {
	if ClientCanceled(x.Request) {
		if late := framing.From(x.Request.Context()).Overdue(); late != nil {
			return clientfault.Of(late), false
		}
		return nil, true
	}
	if fault := x.Body.Fault(); fault != nil {
		return fault, false
	}
	if fault, ok := errors.AsType[*clientfault.Error](err); ok {
		return fault, false
	}
	if err = cause(err); clientfault.Refused(err) {
		return clientfault.Unsendable(err), false
	}
	return nil, false
}

// cause returns the error of the transport without what Caddy wraps it in, which
// names a place in Caddy's code.
func cause(err error) error {
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.Err != nil {
		return he.Err
	}
	return err
}

// ClientCanceled reports whether the client canceled the request, as opposed to
// a deadline that the gateway set. Go's HTTP/2 server cancels a request also
// when its answer is complete, even if the handlers have not returned: once a
// header was sent, only what breaks off is explained by it.
func ClientCanceled(r *http.Request) bool { return errors.Is(r.Context().Err(), context.Canceled) }

// minDelay is how long a client must have delayed an exchange to be blamed for
// its end.
const minDelay = time.Second

// delayedByClient reports whether an exchange that failed was waiting for the
// client most of the time. A backend that gives up on a client which neither
// sends nor reads has not failed.
func delayedByClient(client, total time.Duration) bool {
	return client >= minDelay && client > total/2
}

// endless reports whether the answer may last as long as the client wants, so
// that its end would say nothing of the backend for hours.
func endless(fields http.Header, status int) bool {
	return status == http.StatusSwitchingProtocols ||
		strings.HasPrefix(fields.Get("Content-Type"), "text/event-stream") ||
		caddyhttp.IsIncremental(fields)
}

func isGRPC(fields http.Header) bool {
	return strings.HasPrefix(fields.Get("Content-Type"), "application/grpc")
}
