// Package problem makes the answers with which TentaGate refuses a request:
// errors that Caddy's handle_errors can restyle, and where nobody does, an
// application/problem+json body (RFC 9457).
package problem

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/requeststate"
)

// blankType is the problem type of an answer that says no more than its status
// code does (RFC 9457 §4.2.1).
const blankType = "about:blank"

// Problem is a refusal. It implements error.
type Problem struct {
	// Type is a URI that identifies the kind of problem (RFC 9457 §3.1.1).
	// Default: blankType.
	Type string

	// Title is a short summary that is the same for every problem of the type.
	// Default: the standard text of the status.
	Title string

	// Status is the HTTP status code, 400 to 599.
	Status int

	// Detail explains this occurrence to a person. It never holds a secret, a
	// token, or a text that came from a backend.
	Detail string

	// Ext are extension members (RFC 9457 §3.2), written after the standard
	// ones in the order of their names. The names request_id and trace_id are taken: every
	// problem has them.
	Ext map[string]any
}

// New returns a problem without a type of its own.
func New(status int, detail string) *Problem {
	return &Problem{Status: status, Detail: detail}
}

// Standard returns a problem with the explanation that is the same wherever a
// request is refused with the status, if there is one.
func Standard(status int) *Problem {
	return New(status, details[status])
}

// Error returns the detail, or the title where there is none.
func (p *Problem) Error() string {
	return cmp.Or(p.Detail, p.title())
}

func (p *Problem) title() string { return cmp.Or(p.Title, http.StatusText(p.Status)) }

// Error returns the error with which a handler refuses a request. Headers of
// the answer must be set before it is returned. It must not be wrapped: Caddy
// recognises it by its type.
func Error(p *Problem) error {
	return caddyhttp.Error(p.Status, p)
}

// Allow refuses a request that has another method than those, and says which there are.
func Allow(w http.ResponseWriter, r *http.Request, detail string, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return Error(New(http.StatusMethodNotAllowed, detail))
}

// IsOwn reports whether err is one of TentaGate's own refusals, as opposed to
// a failure of a backend.
func IsOwn(err error) bool {
	_, ok := errors.AsType[*Problem](err)
	return ok
}

// SetRequestID makes id the request's id for problem bodies. The guard handler
// calls it.
func SetRequestID(r *http.Request, id string) {
	if s := requeststate.Of(r); s != nil {
		s.Problem.Given = id
		s.Problem.ID.Store(&s.Problem.Given)
	}
}

// RequestID returns the id of the request: that of SetRequestID, which guard calls, or
// without one Caddy's own {http.request.uuid}.
func RequestID(r *http.Request) string {
	if s := requeststate.Peek(r); s != nil {
		return requestID(s, r)
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		if id, ok := repl.GetString("http.request.uuid"); ok {
			return id
		}
	}
	return ""
}

// InTransport returns the body with which a transport answers. It never asks for
// {http.request.uuid}, which is written to Caddy's variables of the request: a
// connection that is being dialed reads them.
func (p *Problem) InTransport(r *http.Request) []byte {
	s := requeststate.Peek(r)
	if s == nil {
		s = new(requeststate.State)
	}
	s.Decisions.Detail = p.Detail
	return p.encode(requestID(s, r), traceID(r))
}
