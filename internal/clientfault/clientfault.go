// Package clientfault distinguishes errors of the client from errors of the upstream
// where a request is forwarded: a request body that cannot be read, and a request
// that cannot be written.
package clientfault

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

// Error is an error that the client caused: its body could not be read, or its
// request cannot be written.
//
// errors.Is reports that it is context.Canceled: reverse_proxy neither counts such an
// error against the upstream nor retries.
type Error struct{ Err error }

// Of wraps an error that the client caused, once.
func Of(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{err}
}

func (e *Error) Error() string { return "the client's request: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is context.Canceled.
func (e *Error) Is(target error) bool { return target == context.Canceled }

// errUnsendable marks errors of requests that cannot be written.
var errUnsendable = errors.New("it cannot be sent to a service")

// Problem returns the response to a client whose request failed with err: 413 for a
// body that is too large, 408 for one that did not arrive in time, else 400.
func Problem(err error) *problem.Problem {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return p
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode >= 400 && he.StatusCode < 500 {
		return problem.Standard(he.StatusCode)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem.Standard(http.StatusRequestEntityTooLarge)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.Standard(http.StatusRequestTimeout)
	case errors.Is(err, errUnsendable):
		return problem.New(http.StatusBadRequest, "the request has a method, a target or a field that cannot be sent to the service")
	default:
		return problem.New(http.StatusBadRequest, "the request body could not be read")
	}
}
