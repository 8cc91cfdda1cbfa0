// Package circuitstate tells the handlers in front of a circuit breaker whether it
// answered instead of the service. Such a response must not be stored, nor counted as
// one of the service. The state of the circuit is not enough: with `mode observe` an
// open circuit refuses nothing, and a half-open one refuses most.
package circuitstate

import (
	"net/http"

	"github.com/pythopus/tentagate/internal/requeststate"
)

// Watch lets the handlers behind mark the request, and removes a mark that it
// has, before the service is asked.
func Watch(r *http.Request) {
	if s := requeststate.Of(r); s != nil {
		s.Circuit.Watched.Store(true)
		s.Circuit.Refused.Store(false)
	}
}

// Refused notes that the circuit breaker answers the request, with a fallback or an
// error, and why. The request is marked only if a handler in front called Watch.
func Refused(r *http.Request, reason string) {
	s := requeststate.Peek(r)
	if s == nil {
		return
	}
	s.Decisions.Circuit, s.Decisions.ByCircuit = reason, true
	if s.Circuit.Watched.Load() {
		s.Circuit.Refused.Store(true)
	}
}

// Reset removes the mark before another upstream is tried.
func Reset(r *http.Request) {
	if s := requeststate.Peek(r); s != nil {
		s.Circuit.Refused.Store(false)
		s.Decisions.ByCircuit = false
	}
}

// WasRefused reports whether a circuit breaker answered instead of the service.
func WasRefused(r *http.Request) bool {
	s := requeststate.Peek(r)
	return s != nil && s.Circuit.Refused.Load()
}
