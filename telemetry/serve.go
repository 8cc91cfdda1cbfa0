package telemetry

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requestid"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/stage"
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s := requeststate.Of(r)
	if s == nil || s.Decisions.Observed {
		// A handler in front observes the request, or has: error routes lead the same
		// request through the handlers again.
		return next.ServeHTTP(w, r)
	}
	o := &observation{handler: h, state: s, request: r, method: r.Method, host: r.Host, path: r.URL.Path, rawPath: r.URL.RawPath, service: h.serviceOf(r), failed: true}
	o.begin(w)
	defer o.end()
	err := next.ServeHTTP(&s.Observed, r)
	o.err, o.failed = err, false
	return err
}

// observation is one request and what became of it.
type observation struct {
	handler *Handler
	state   *requeststate.State
	request *http.Request
	// As the client sent it.
	method, host, path, rawPath string

	service *service
	body    *countedBody // nil if framing watches the body, or there is none
	err     error
	failed  bool // a handler panicked
}

func (o *observation) begin(w http.ResponseWriter) {
	s := o.state
	s.Decisions.Observed, s.Decisions.Service = true, o.service.label
	s.Decisions.Stages.Start(time.Now())
	s.Observed.Begin(w, s.Context, &s.Decisions.Stages)
	accesslog.Add(o.request, s)
	if r := o.request; r.ContentLength != 0 && r.Body != nil && framing.From(r.Context()) == nil {
		o.body = &countedBody{ReadCloser: r.Body}
		r.Body = o.body
	}
	o.service.inFlight.Inc()
}

// end records the request.
func (o *observation) end() {
	d, sv := &o.state.Decisions, o.service
	took := d.Stages.Stop()
	status := o.status()
	d.ClientClosed = o.clientLeft() && !o.complete()
	if o.err != nil && o.state.Problem.ID.Load() == nil {
		// A handler in front of guard refused the request: its id is that of the answer.
		problem.SetRequestID(o.request, requestid.Of(o.request.Header))
	}
	o.findRoute()
	rs := sv.route(d.Route, d.Stages.Began())
	sv.inFlight.Dec()
	rs.count(status)
	for i := range stage.Stage(stage.Count) {
		if spent, ok := d.Stages.Spent(i); ok {
			sv.stages[i].observe(spent)
		}
	}
	if n := o.bytesRead(); n > 0 {
		sv.requestBytes.Add(float64(n))
	}
	if n := o.state.Observed.Bytes; n > 0 {
		sv.responseBytes.Add(float64(n))
	}
	span := trace.SpanFromContext(o.request.Context())
	if status != http.StatusSwitchingProtocols {
		observe(rs.duration, took, span.SpanContext())
	}
	if span.IsRecording() {
		o.describe(span, rs)
	}
	o.keep(status, took, rs, span.SpanContext())
}

// observe adds a duration, with the trace as an exemplar if it is sampled.
func observe(to prometheus.Observer, took time.Duration, of trace.SpanContext) {
	if of.IsSampled() {
		if with, ok := to.(prometheus.ExemplarObserver); ok {
			with.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": of.TraceID().String()})
			return
		}
	}
	to.Observe(took.Seconds())
}

// status returns the status of the response. An error that a handler returned is
// answered behind this one, by Caddy or the error routes, mostly with its status. A
// handler such as http_cache may answer a client that has left.
func (o *observation) status() int {
	if seen := &o.state.Observed; seen.Status != 0 {
		if seen.Canceled && o.clientLeft() {
			return requeststate.StatusClientClosed
		}
		return seen.Status
	}
	switch {
	case o.failed:
		return http.StatusInternalServerError
	case o.err == nil && o.clientLeft():
		return requeststate.StatusClientClosed
	case o.err == nil:
		return http.StatusOK // as Go's server answers where no handler did
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](o.err); ok && he.StatusCode != 0 {
		return he.StatusCode
	}
	return http.StatusInternalServerError
}

// complete reports whether all of the response was written. Without a Content-Length its end
// is sent when the handlers have returned.
func (o *observation) complete() bool {
	seen := &o.state.Observed
	switch {
	case o.failed, seen.Status == 0, seen.Canceled:
		return false
	case seen.Status == http.StatusSwitchingProtocols, seen.Status == http.StatusNoContent, seen.Status == http.StatusNotModified, o.method == http.MethodHead:
		return true
	}
	length, err := strconv.ParseInt(seen.Header().Get("Content-Length"), 10, 64)
	return err == nil && seen.Bytes >= length
}

// bytesRead returns how much of the request's body was read.
func (o *observation) bytesRead() int64 {
	if watch := framing.From(o.request.Context()); watch != nil {
		return watch.BytesRead()
	}
	if o.body != nil {
		return o.body.read.Load()
	}
	return 0
}

// countedBody counts what is read of a body where framing does not watch it, as on a
// server without guard. A proxy may go on reading when the handlers have returned.
type countedBody struct {
	io.ReadCloser
	read atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	return n, err
}
