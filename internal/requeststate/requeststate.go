// Package requeststate holds what TentaGate's handlers keep of one request. It is
// one value, so that a request costs one allocation and one entry among Caddy's
// variables, however many handlers it passes.
package requeststate

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/headers"
)

// varKey is the name of the state among Caddy's variables of the request.
const varKey = "tentagate"

// State is put into the variables by the first of TentaGate's handlers, before
// any other runs. Only the state itself changes afterwards: a connection that the
// proxy still dials may read the variables when the handlers have returned. What
// such a reader needs is atomic, or set before the proxy is called.
//
// It is also the context of the request from there on, so that it, and what Caddy
// and the handlers look up most often, is found without a walk through the contexts.
type State struct {
	context.Context

	vars    map[string]any
	repl    *caddy.Replacer
	server  *caddyhttp.Server
	framing *framing.Request

	// Problem belongs to package problem.
	Problem struct {
		// Taken is true while the outermost handler answers the errors of all.
		Taken atomic.Bool
		// Begun: the answer had begun when an error came.
		Begun atomic.Bool
		// ID is the id of the request: Given by guard, or by telemetry or
		// Fallback for an error in front of it.
		ID    atomic.Pointer[string]
		Given string
		// Answer is the writer of the outermost handler.
		Answer Answer
	}

	// Guard belongs to guard.
	Guard struct {
		Writer headers.Writer
		ID     string
		// ForService and ForClient are the values of the fields with the id.
		ForService, ForClient [1]string
	}

	// Placeholders belongs to package placeholders: the providers of values, the
	// latest first. A copy of the request may ask them in another goroutine.
	Placeholders struct {
		Mapped bool // into the replacer
		Latest atomic.Pointer[Source]
		// Most requests have few providers: these need no allocation.
		Room [3]Source
		Used int
	}

	// Identity is the *identity.Identity of an authenticated client.
	Identity any
	// Source is where the credentials of Identity stood, as package identity has it.
	Source struct {
		Field, Cookie string
		Proof         bool
	}
	// Private: the answer is for this client alone.
	Private bool
	// DryRun: handlers decide about the request, and have no effects. It is true from the
	// beginning, or never.
	DryRun bool

	// Path is the escaped path of the request in the spelling that the configuration
	// has, where the request has another that leads to the same resource, else "".
	Path string

	// Token is what jwt_auth keeps of the token that it accepted.
	Token any

	// Circuit belongs to package circuitstate.
	Circuit struct {
		// Watched: a handler in front asks whether a circuit breaker answered.
		Watched atomic.Bool
		Refused atomic.Bool
	}

	// Decisions are for the access log, traces and metrics.
	Decisions Decisions
	// Observed belongs to telemetry.
	Observed Observed
}

// Source is a provider of values of placeholders.
type Source struct {
	Provider interface {
		Placeholder(name string) (value any, ok bool)
	}
	Before *Source
}

// String keeps the state out of {http.vars.*}.
func (*State) String() string { return "" }

// newState makes the state the context of the request.
func newState(r *http.Request, vars map[string]any, repl *caddy.Replacer) *State {
	s := &State{Context: r.Context(), vars: vars, repl: repl}
	s.server, _ = s.Context.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	s.framing = framing.From(s.Context)
	*r = *r.WithContext(s) // not a copy: what Caddy keeps of the request has its address
	vars[varKey] = s
	return s
}

// Value returns the value that the context of the request has for a key.
func (s *State) Value(key any) any {
	switch key := key.(type) {
	case caddy.CtxKey:
		switch {
		case key == caddyhttp.VarsCtxKey:
			return s.vars
		case key == caddy.ReplacerCtxKey && s.repl != nil:
			return s.repl
		case key == caddyhttp.ServerCtxKey && s.server != nil:
			return s.server
		}
	case framing.Key:
		return s.framing
	}
	return s.Context.Value(key)
}

// Replacer returns the replacer of the request, or nil.
func (s *State) Replacer() *caddy.Replacer { return s.repl }

// Of returns the state of the request, which it makes at the first call. It is nil
// where a request has no variables, as in tests of a handler alone.
func Of(r *http.Request) *State {
	ctx := r.Context()
	if s, ok := ctx.(*State); ok {
		return s
	}
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return nil
	}
	s, _ := vars[varKey].(*State)
	repl, _ := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	switch {
	case s == nil:
		return newState(r, vars, repl)
	case s.repl == repl:
		return s
	default:
		return s.fork(newState(r, vars, repl)) // a copy of a request has a replacer of its own
	}
}

// Peek returns the state of the request, or nil if it has none yet.
func Peek(r *http.Request) *State {
	ctx := r.Context()
	if s, ok := ctx.(*State); ok {
		return s
	}
	s, _ := caddyhttp.GetVar(ctx, varKey).(*State)
	return s
}

// SetPath sets the Path of the request's state.
func SetPath(r *http.Request, path string) {
	if s := Of(r); s != nil {
		s.Path = path
	}
}

// Path returns the Path of the request's state, "" if it has none.
func Path(r *http.Request) string {
	if s := Peek(r); s != nil {
		return s.Path
	}
	return ""
}

// fork gives the state of a copy of the request who asks, and under which id. What
// handlers behind add is the copy's own.
func (s *State) fork(own *State) *State {
	own.DryRun = s.DryRun
	own.Identity, own.Source, own.Private, own.Path, own.Token = s.Identity, s.Source, s.Private, s.Path, s.Token
	own.Problem.Taken.Store(s.Problem.Taken.Load())
	own.Problem.Begun.Store(s.Problem.Begun.Load())
	own.Problem.ID.Store(s.Problem.ID.Load())
	return own
}
