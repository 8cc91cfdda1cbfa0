// Package circuitstate tells the handlers in front of a circuit breaker whether it
// answered instead of the service. Such a response must not be stored, nor counted as
// one of the service. The state of the circuit is not enough: with `mode observe` an
// open circuit refuses nothing, and a half-open one refuses most.
package circuitstate

import (
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// varKey is the name of the mark among Caddy's variables of the request.
const varKey = "tentagate.circuit_refused"

// mark is added to the variables before later handlers run; afterwards only the mark
// changes. A connection that is still being dialled may read the variables, even
// after the proxy has returned.
type mark struct{ refused atomic.Bool }

func of(r *http.Request) *mark {
	m, _ := caddyhttp.GetVar(r.Context(), varKey).(*mark)
	return m
}

// Watch lets later handlers mark the request, and removes an earlier mark.
func Watch(r *http.Request) {
	if m := of(r); m != nil {
		m.refused.Store(false)
		return
	}
	caddyhttp.SetVar(r.Context(), varKey, new(mark))
}

// Refused marks the request as answered by the circuit breaker, with a fallback or an
// error. It does nothing unless a handler in front called Watch.
func Refused(r *http.Request) {
	if m := of(r); m != nil {
		m.refused.Store(true)
	}
}

// Reset removes the mark before another upstream is tried.
func Reset(r *http.Request) {
	if m := of(r); m != nil {
		m.refused.Store(false)
	}
}

// WasRefused reports whether a circuit breaker answered instead of the service.
func WasRefused(r *http.Request) bool {
	m := of(r)
	return m != nil && m.refused.Load()
}
