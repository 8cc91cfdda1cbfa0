package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/circuit"
	"github.com/pythopus/tentagate/breaker/registry"
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
}

func (a *attempt) run() (*http.Response, error) {
	r := a.r
	if registry.Wraps(r.Body) {
		a.body.ReadCloser = r.Body
		if a.permit.Probe() {
			a.circuit.Uploading(a.permit, true)
			a.body.Ended = func() { a.circuit.Uploading(a.permit, false) }
		}
		// The request belongs to reverse_proxy: the transport gets one of its own.
		own := *r
		own.Body = &a.body
		r = &own
	}
	defer func() {
		// A panic passes through; the permit must not be lost with it.
		if a.result.Status == 0 && a.result.Err == nil {
			a.done(circuit.Ignored)
		}
	}()
	resp, err := a.t.HTTPTransport.RoundTrip(r)
	a.answered = registry.Clock.Now()
	a.result.Latency = max(a.answered.Sub(a.began)-a.body.Waited(), 0)
	failures := a.t.member.Failures()
	if err != nil {
		a.result.Err = err
		if a.client() || registry.HeldUp(a.body.Waited(), registry.Clock.Since(a.began)) {
			a.done(circuit.Ignored)
		} else {
			a.done(failures.Transport(err))
		}
		return nil, err
	}
	a.result.Status = resp.StatusCode
	a.result.RetryAfter = failures.RetryAfter(resp.Header, a.began)
	a.grpc = resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc")
	switch {
	case a.grpc:
		if outcome, known := failures.GRPC(resp.Header); known || a.permit.Probe() {
			a.done(outcome)
		}
	case a.permit.Probe(), resp.StatusCode == http.StatusSwitchingProtocols, caddyhttp.IsIncremental(resp.Header),
		strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"), !registry.Wraps(resp.Body):
		a.done(failures.Status(resp.StatusCode))
	}
	if !a.told.Load() {
		resp.Body = &answer{ReadCloser: resp.Body, a: a, resp: resp}
	}
	return resp, nil
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
	if !a.told.CompareAndSwap(false, true) {
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
	failures := b.a.t.member.Failures()
	if b.a.grpc {
		if outcome, ok := failures.GRPC(b.resp.Trailer); ok {
			b.a.done(outcome)
			return
		}
	}
	b.a.done(failures.Status(b.a.result.Status))
}
