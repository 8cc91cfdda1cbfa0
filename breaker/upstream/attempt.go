package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/clientfault"
	"github.com/pythopus/tentagate/internal/framing"
)

// attempt is a request to an upstream, and its answer.
type attempt struct {
	t       *Transport
	r       *http.Request
	circuit *registry.Circuit
	permit  circuit.Permit
	body    registry.Body
	began   time.Time

	result   circuit.Result
	answered time.Time     // when the header came
	reading  time.Duration // how long the upstream was waited for since
	grpc     bool
	told     atomic.Bool

	vars  map[string]any // of the request
	trial *trial         // nil where nothing is tried again
}

func (a *attempt) run() (*http.Response, error) {
	defer func() {
		// A panic passes through; the permit must not be lost with it.
		if a.result.Status == 0 && a.result.Err == nil {
			a.done(circuit.Ignored)
		}
	}()
	// The request belongs to reverse_proxy: the transport gets one of its own.
	own := *a.r
	switch {
	case a.trial.replays():
		own.Body, own.ContentLength = a.trial.body(), int64(len(a.trial.content))
	case registry.Wraps(a.r):
		a.body.ReadCloser = a.r.Body
		if a.permit.Probe() {
			a.circuit.Uploading(a.permit, true)
			a.body.Ended = func() { a.circuit.Uploading(a.permit, false) }
		}
		own.Body = &a.body
		if a.trial.keeps(&own) {
			if err := a.trial.keep(&own); err != nil {
				return a.failed(err)
			}
		}
	}
	expectAnswer(&own)
	resp, err := a.t.HTTPTransport.RoundTrip(&own)
	if err == nil {
		err = check(a.r, resp)
	}
	a.answered = registry.Clock.Now()
	a.result.Latency = max(a.answered.Sub(a.began)-a.body.Waited(), 0)
	if err != nil {
		return a.failed(err)
	}
	a.result.Status = resp.StatusCode
	if a.circuit == nil {
		return resp, nil
	}
	failures := a.t.member.Failures()
	a.result.RetryAfter = failures.RetryAfter(resp.Header, a.began)
	a.grpc = resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc")
	switch {
	case a.grpc:
		if outcome, known := failures.GRPC(a.r, resp.Header); known || a.permit.Probe() {
			a.done(outcome)
		}
	case a.permit.Probe(), resp.StatusCode == http.StatusSwitchingProtocols, caddyhttp.IsIncremental(resp.Header),
		strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"), resp.Body == nil || resp.Body == http.NoBody:
		a.done(a.sort())
	}
	if !a.told.Load() {
		resp.Body = &answer{ReadCloser: resp.Body, a: a, resp: resp}
	}
	return resp, nil
}

// failed tells the circuit of an attempt without an answer, and returns what
// reverse_proxy is told: an answer where the client is to blame, since it would
// count an error against the upstream and perhaps send the request again.
func (a *attempt) failed(err error) (*http.Response, error) {
	a.result.Err = err
	fault := a.fault(err)
	gone := registry.Gone(a.r)
	if gone {
		if late := framing.From(a.r.Context()).Overdue(); late != nil {
			fault, gone = clientfault.Of(late), false
		}
	}
	switch {
	case fault != nil || gone:
		if gone && !a.body.Failed() {
			a.result.Unanswered = a.result.Latency
		}
		a.done(circuit.Ignored)
	case registry.HeldUp(a.body.Waited(), registry.Clock.Since(a.began)):
		a.done(circuit.Ignored)
	case a.circuit != nil:
		a.done(a.t.member.Failures().Transport(err))
	}
	switch {
	case gone:
		return nil, err
	case fault != nil:
		return a.t.blame(a.r, a.vars, fault), nil
	case a.trial.again(a.r):
		return nil, retryable{reverseproxy.NewDialError(err), err}
	}
	return nil, err
}

// fault returns what the client did wrong, or nil where an attempt failed for
// another reason.
func (a *attempt) fault(err error) *clientfault.Error {
	if fault := a.body.Fault(); fault != nil {
		return fault
	}
	if clientfault.Refused(err) {
		return clientfault.Unsendable(err)
	}
	if fault, ok := errors.AsType[*clientfault.Error](clientfault.Fields(a.r)); ok {
		return fault
	}
	return nil
}

// sort sorts an answer by its status. An upstream that loses its patience with a
// client has not failed.
func (a *attempt) sort() circuit.Outcome {
	outcome := a.t.member.Failures().Status(a.result.Status)
	if outcome == circuit.Failure && registry.HeldUp(a.body.Waited(), a.answered.Sub(a.began)) {
		return circuit.Ignored
	}
	return outcome
}

// client reports whether the client is to blame.
func (a *attempt) client() bool { return registry.Gone(a.r) || a.body.Failed() }

// heldUp reports whether it was the client that the answer waited for.
func (a *attempt) heldUp() bool {
	all := registry.Clock.Since(a.answered)
	return registry.HeldUp(all-a.reading, all)
}

// done tells the circuit the result, the first time that it is called.
func (a *attempt) done(outcome circuit.Outcome) {
	if a.circuit == nil || !a.told.CompareAndSwap(false, true) {
		return
	}
	result := a.result
	result.Outcome = outcome
	a.circuit.Done(a.permit, result)
	a.t.member.CountResult(result)
}

// answer is the body of a response whose end decides: whether it breaks off, and
// for gRPC what the trailer says.
type answer struct {
	io.ReadCloser
	a    *attempt
	resp *http.Response
}

func (b *answer) Read(p []byte) (int, error) {
	began := registry.Clock.Now()
	n, err := b.ReadCloser.Read(p)
	b.a.reading += registry.Clock.Since(began)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.end()
	case b.a.client() || b.a.heldUp():
		b.a.done(circuit.Ignored)
	default:
		b.a.done(b.a.t.member.Failures().Abort())
	}
	return n, err
}

// Close is also called when the client wants no more of the answer; what there
// was of it was well.
func (b *answer) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

func (b *answer) end() {
	if b.a.grpc {
		if outcome, ok := b.a.t.member.Failures().GRPC(b.a.r, b.resp.Trailer); ok {
			b.a.done(outcome)
			return
		}
	}
	b.a.done(b.a.sort())
}
