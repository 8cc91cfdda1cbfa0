// Package explain is how handlers say what they would do with a request, for
// `tentagate explain` and the admin API. Package dryrun leads the request through the
// handlers.
package explain

import (
	"cmp"
	"errors"
	"net/http"
	"reflect"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

// Handler is a handler that can explain what it does with a request.
type Handler interface {
	caddyhttp.MiddlewareHandler

	// Explain decides about the request as ServeHTTP does, and adds the decision to t,
	// before next if it calls that. It changes nothing but the request, its placeholders
	// and its variables: it counts, takes and stores nothing, logs
	// nothing above the level debug, and asks no backend.
	Explain(t *Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error
}

// Result is what a handler does with a request.
type Result string

// The results.
const (
	Passes  Result = "passes"  // to the next handler
	Refuses Result = "refuses" // with an error
	Answers Result = "answers" // in place of the handlers behind
	Asks    Result = "asks"    // the service
	Stops   Result = "stops"   // a dry run: only a real request can go on; or a past request was aborted
)

// Facts are what a decision was made by, for scripts. They have no secret in them.
type Facts map[string]string

// Step is what one handler does.
type Step struct {
	// Handler is the name of the handler's module, such as `jwt_auth`.
	Handler string `json:"handler"`
	// At is where the Caddyfile has it, such as `Caddyfile:12`, if that is known.
	At     string `json:"at,omitempty"`
	Result Result `json:"result"`
	// Status is that of the response, if the handler makes one.
	Status int `json:"status,omitempty"`
	// Reason is a sentence for the operator.
	Reason string `json:"reason,omitempty"`
	Facts  Facts  `json:"facts,omitempty"`
}

// maxSteps bounds how many steps are kept.
const maxSteps = 500

// Record is what all handlers did.
type Record struct {
	Steps []Step
	// Status is that of the response of the gateway, 0 while there is none.
	Status int
	// Through leads the request through routes, behind which there is nothing. It is set
	// by dryrun.
	Through func(routes caddyhttp.RouteList, w http.ResponseWriter, r *http.Request) error
}

// Trace is the record, for one handler.
type Trace struct {
	record      *Record
	handler, at string
}

// Of returns the trace of a handler.
func (r *Record) Of(h caddyhttp.MiddlewareHandler) *Trace {
	return &Trace{record: r, handler: Name(h), at: position(h)}
}

// Of returns the trace of another handler, which is decided about together.
func (t *Trace) Of(h caddyhttp.MiddlewareHandler) *Trace { return t.record.Of(h) }

// Name returns the name of a handler, such as `jwt_auth`.
func Name(h caddyhttp.MiddlewareHandler) string {
	if m, ok := h.(caddy.Module); ok {
		return m.CaddyModule().ID.Name()
	}
	return reflect.TypeOf(h).String()
}

// position returns where the Caddyfile has a handler, if it has a field for that.
func position(h caddyhttp.MiddlewareHandler) string {
	v := reflect.Indirect(reflect.ValueOf(h))
	if v.Kind() != reflect.Struct {
		return ""
	}
	field := v.FieldByName("Position")
	if !field.IsValid() || field.Kind() != reflect.String {
		return ""
	}
	return field.String()
}

func (t *Trace) add(s Step) {
	if len(t.record.Steps) < maxSteps {
		s.Handler, s.At = t.handler, t.at
		t.record.Steps = append(t.record.Steps, s)
	}
}

// Pass records that the request goes on to the next handler.
func (t *Trace) Pass(reason string, facts Facts) {
	t.add(Step{Result: Passes, Reason: reason, Facts: facts})
}

// Refuse records that the handler refuses the request with an error, and returns it. note
// is what the operator should know beside what the client is told; it may be empty.
func (t *Trace) Refuse(err error, note string, facts Facts) error {
	reason := Detail(err)
	if note != "" {
		reason += " (" + note + ")"
	}
	t.add(Step{Result: Refuses, Status: StatusOf(err), Reason: reason, Facts: facts})
	return err
}

// Answer records that the handler answers the request.
func (t *Trace) Answer(status int, reason string, facts Facts) {
	t.record.Status = status
	t.add(Step{Result: Answers, Status: status, Reason: reason, Facts: facts})
}

// ErrStopped ends a dry run where only a real request can go on. Handlers pass it on as
// they would any error.
var ErrStopped = errors.New("the dry run stops here")

// Stop records that it cannot be told without a real request what comes next, and returns
// ErrStopped.
func (t *Trace) Stop(reason string, facts Facts) error {
	t.add(Step{Result: Stops, Reason: reason, Facts: facts})
	return ErrStopped
}

// Ask records that the handler asks a service, and returns ErrStopped: what the service
// answers is not known.
func (t *Trace) Ask(address string, facts Facts) error {
	t.add(Step{Result: Asks, Reason: address, Facts: facts})
	return ErrStopped
}

// ErrCircuitsOpen is in the error of a proxy of which only the circuits of the upstreams
// refuse the request.
var ErrCircuitsOpen = errors.New("the circuits of all upstreams are open")

// Through leads the request through routes of the handler, behind which there is nothing.
func (t *Trace) Through(routes caddyhttp.RouteList, w http.ResponseWriter, r *http.Request) error {
	return t.record.Through(routes, w, r)
}

// StatusOf returns the status of the response to an error.
func StatusOf(err error) int {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return p.Status
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode != 0 {
		return he.StatusCode
	}
	return http.StatusInternalServerError
}

// Detail returns what is said of an error. The text of one that is not of TentaGate may
// have anything in it, and is left out.
func Detail(err error) string {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return cmp.Or(p.Detail, http.StatusText(p.Status))
	}
	return http.StatusText(StatusOf(err))
}
