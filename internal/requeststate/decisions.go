package requeststate

import (
	"context"
	"io"
	"net/http"

	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/stage"
)

// Decisions are what the handlers decided about a request: for its line in the access
// log, its span, and the metrics. Each handler sets its own fields, in the goroutine of
// the request. A field that is empty was not decided.
type Decisions struct {
	// Service is the configured name of the service, set by telemetry.
	Service string
	// Route is the template of the path, set by package route.
	Route string

	// ByGuard: guard refused the request.
	ByGuard bool
	// CORS is `allowed` or `refused` for a request with an Origin, and `preflight_allowed`
	// or `preflight_refused` for a preflight.
	CORS string
	// Auth is `ok`, `anonymous` or the reason of a refusal, and Provider the name of
	// the provider whose token it was.
	Auth, Provider string
	// Subject is that of a token with a valid signature, also if the request is refused
	// for what the token does not permit.
	Subject string
	// Limits are the rate limits that the request passed.
	Limits Limits
	// Cache is what the cache did, as in {http.cache.status}, and CacheReason why it did not
	// answer: as `fwd` of Cache-Status (RFC 9211 §2.2), or what has the request bypass it.
	Cache, CacheReason string
	// Circuit is the state of the circuit breaker, or why it refused the request, in which
	// case ByCircuit is true.
	Circuit   string
	ByCircuit bool

	// Detail is that of the problem with which the gateway refused the request. A handler in
	// front may have answered in another way nevertheless.
	Detail string
	// ErrorLogged: the log has the error that the request was answered for, at level ERROR
	// and with the id of the request.
	ErrorLogged bool

	// ClientClosed: the client closed the request before it had the whole response. Set by
	// telemetry.
	ClientClosed bool

	// Stages is the time at each stage. It runs only behind telemetry.
	Stages stage.Clock

	// Logged: the access log has been told of the decisions, or there is none.
	Logged bool
	// Observed: a telemetry handler observes the request.
	Observed bool
}

// Limits are the rate limits of a request.
type Limits interface {
	// Decided returns the zone that refused the request or, of those that admitted it,
	// the one with the least units left. remaining is negative if it is not known.
	Decided() (zone, outcome string, remaining int64)
}

// Observed is the response writer of telemetry.
type Observed struct {
	headers.Writer
	request context.Context
	stages  *stage.Clock
	// Status of the response, 0 while its header has not been sent.
	Status int
	// Bytes of the body that have been written.
	Bytes int64
	// Canceled: the request was canceled before the header was sent, as when its client
	// has left.
	Canceled bool
}

// Begin makes the writer one in front of w, for a request with the context. It tells stages
// when the header is sent.
func (o *Observed) Begin(w http.ResponseWriter, request context.Context, stages *stage.Clock) {
	o.request, o.stages = request, stages
	o.Init(w, o)
}

// BeforeHeader notes the status.
func (o *Observed) BeforeHeader(_ http.Header, status int) {
	o.Status, o.Canceled = status, o.request.Err() != nil
	o.stages.Enter(stage.Response)
}

// Write counts the bytes of the body.
func (o *Observed) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	o.Bytes += int64(n)
	return n, err
}

// ReadFrom counts the bytes of the body.
func (o *Observed) ReadFrom(r io.Reader) (int64, error) {
	n, err := o.Writer.ReadFrom(r)
	o.Bytes += n
	return n, err
}
