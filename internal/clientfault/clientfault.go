// Package clientfault tells what a client did wrong from what a backend did, at
// the places where the two meet: while a request body is sent on, and where a
// request cannot be sent on at all.
package clientfault

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

// Error is that the client's part of an exchange failed: its body could not be
// read, or its request cannot be written.
//
// errors.Is finds context.Canceled in it. That is how reverse_proxy knows an
// error that it neither counts against the upstream nor tries again.
type Error struct{ Err error }

// Of wraps an error of the client, unless it is wrapped already.
func Of(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{err}
}

func (e *Error) Error() string { return "the client's request: " + e.Err.Error() }

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }

// Is makes the error one of a request that the client gave up.
func (e *Error) Is(target error) bool { return target == context.Canceled }

// errUnsendable marks errors of requests that cannot be written.
var errUnsendable = errors.New("it cannot be sent to a service")

// Problem returns the answer to a client whose request failed with err: 413 for
// a body that is too large, 408 for one that did not arrive in time, else 400.
func Problem(err error) *problem.Problem {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return p
	}
	if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok && he.StatusCode >= 400 && he.StatusCode < 500 {
		return problem.New(he.StatusCode, details[he.StatusCode])
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem.New(http.StatusRequestEntityTooLarge, details[http.StatusRequestEntityTooLarge])
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.New(http.StatusRequestTimeout, details[http.StatusRequestTimeout])
	case errors.Is(err, errUnsendable):
		return problem.New(http.StatusBadRequest, "the request has a method, a target or a field that cannot be sent to the service")
	default:
		return problem.New(http.StatusBadRequest, "the request body could not be read")
	}
}

var details = map[int]string{
	http.StatusRequestEntityTooLarge: "the request body is larger than this server accepts",
	http.StatusRequestTimeout:        "the request body did not arrive in time",
}
