package breaker

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/breaker/internal/exchange"
	"github.com/pythopus/tentagate/breaker/internal/inflight"
	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/clientfault"
	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requeststate"
)

// observer is the response writer of a request that was admitted. It observes
// the answer, and replaces one that no backend gave.
type observer struct {
	headers.Writer
	exchange.Exchange

	h     *Handler
	place inflight.Place // nil without max_inflight
	mark  exchange.Mark

	delayed    time.Duration // how long the client took to read the answer
	unwritable bool          // the client does not take the answer
	replaced   error         // takes the place of the answer that the proxy began
}

// run admits the request and reports how it went.
func (o *observer) run(w http.ResponseWriter, next caddyhttp.Handler) error {
	r := o.Request
	o.Init(w, o)
	exchange.ExpectSubstitute(r, &o.mark)
	r.Body = o.ObservedBody()
	returned := false
	defer func() {
		if returned {
			return
		}
		// A panic, or the end of the goroutine, passes on; the permit must not be
		// lost with it.
		panicked := recover()
		if isAbort(panicked) && !o.unwritable {
			o.Aborted(o.delayed)
		} else {
			o.Ignore()
		}
		if panicked != nil {
			panic(panicked)
		}
	}()
	err := next.ServeHTTP(o, r)
	returned = true
	switch {
	case o.replaced != nil:
		err = o.replaced
	case err == nil && !o.Sent():
		err = o.implied()
	}
	if err == nil {
		o.Ended(o.Header())
		return nil
	}
	return o.failed(w, err)
}

// implied notes the 200 that Go's server sends where no handler has answered.
// reverse_proxy leaves it at that, too, where a service switches to a protocol
// that it was not asked for.
func (o *observer) implied() error {
	if problem.DroppedUpgrade(o.Request) {
		return exchange.ErrUnaskedUpgrade
	}
	o.Answered(http.StatusOK, o.Header())
	return nil
}

// failed reports a request that ended in an error, and returns the error to
// answer with: not one by which Caddy blames the backend for the client's fault.
func (o *observer) failed(w http.ResponseWriter, err error) error {
	fault, left := o.ClientFault(err)
	switch {
	case left && !o.Sent():
		o.Canceled()
	case left || fault != nil:
		o.Ignore()
	default:
		o.Failed(err, o.classify(err))
	}
	if o.Sent() {
		return err
	}
	if o.replaced != nil {
		for _, name := range []string{"Content-Length", "Retry-After", "Proxy-Status", "Cache-Control"} {
			w.Header().Del(name) // of the answer that is replaced
		}
	}
	if open, ok := errors.AsType[*registry.OpenError](err); ok {
		return o.h.refuseUpstream(w, o.Request, open)
	}
	if _, ok := errors.AsType[exchange.InvalidAnswerError](err); ok {
		return problem.Error(problem.New(http.StatusBadGateway, "the service sent an invalid response"))
	}
	if left || fault == nil || problem.IsOwn(err) {
		return err
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode < http.StatusInternalServerError {
		return err
	}
	return problem.Error(clientfault.Problem(fault))
}

// classify returns the outcome of an error that the client did not cause. What
// the gateway answers by itself says nothing of the backend.
func (o *observer) classify(err error) circuit.Outcome {
	failures := o.h.member.Failures()
	if _, ok := errors.AsType[exchange.InvalidAnswerError](err); ok {
		return failures.Error(http.StatusBadGateway)
	}
	he, ok := errors.AsType[caddyhttp.HandlerError](err)
	if _, open := errors.AsType[*registry.OpenError](err); open || !ok || problem.IsOwn(err) || registry.IsOwnRefusal(he) {
		return circuit.Ignored
	}
	return failures.Error(he.StatusCode)
}

// WriteHeader sends the header on, unless the answer is to be replaced.
func (o *observer) WriteHeader(status int) {
	if o.replaced == nil && !o.Sent() {
		o.replaced = o.replacement(status)
	}
	if o.replaced == nil {
		o.Writer.WriteHeader(status)
	}
}

// replacement returns the error that takes the place of an answer, or nil.
func (o *observer) replacement(status int) error {
	if s := exchange.SubstituteFor(o.Request, status); s != nil {
		return cmp.Or[error](s.Fault, s.Open)
	}
	if status == requeststate.StatusClientClosed {
		// reverse_proxy takes a body that cannot be read for a client that left.
		if fault, _ := o.ClientFault(nil); fault != nil {
			return fault
		}
	}
	return exchange.CheckStatus(status)
}

// BeforeHeader is called when the response header has come.
func (o *observer) BeforeHeader(fields http.Header, status int) {
	if status == requeststate.StatusClientClosed && exchange.ClientCanceled(o.Request) {
		o.Canceled()
		return
	}
	o.Answered(status, fields)
	if o.place != nil {
		o.place.Header(o.MeasuresBackend())
	}
}

// Write notes that the client does not take the answer, or takes its time: that
// the proxy breaks off then is not the backend's fault.
func (o *observer) Write(p []byte) (int, error) {
	if o.replaced != nil {
		return len(p), nil
	}
	began := registry.Now()
	n, err := o.Writer.Write(p)
	o.written(began, err)
	return n, err
}

// FlushError notes the same.
func (o *observer) FlushError() error {
	if o.replaced != nil {
		return nil
	}
	began := registry.Now()
	err := o.Writer.FlushError()
	o.written(began, err)
	return err
}

// ReadFrom lets the writer beneath use sendfile.
func (o *observer) ReadFrom(r io.Reader) (int64, error) {
	if o.replaced != nil {
		return io.Copy(io.Discard, r)
	}
	return o.Writer.ReadFrom(r)
}

func (o *observer) written(began time.Time, err error) {
	o.delayed += registry.Since(began)
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		o.unwritable = true
	}
}

// isAbort reports whether a handler broke off the answer on purpose.
func isAbort(panicked any) bool {
	err, ok := panicked.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}
