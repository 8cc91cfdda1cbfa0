// Package circuitstate carries from a circuit breaker to the handlers in front
// of it whether it answered in place of the service. Such an answer is over
// when the service is back, so it must be neither stored nor taken for the
// service's. The state of the circuit does not say so: with `mode observe` an
// open circuit lets everything through, and a half-open one refuses most.
package circuitstate

import (
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// varKey is the name of the mark among Caddy's variables of the request.
const varKey = "tentagate.circuit_refused"

// mark is put into the variables before handlers behind are called, and only it
// changes afterwards: a connection that is still being dialled for a request
// reads the variables, also when the proxy has returned.
type mark struct{ refused atomic.Bool }

func of(r *http.Request) *mark {
	m, _ := caddyhttp.GetVar(r.Context(), varKey).(*mark)
	return m
}

// Watch lets the handlers behind mark the request, and removes a mark that it
// has, before the service is asked.
func Watch(r *http.Request) {
	if m := of(r); m != nil {
		m.refused.Store(false)
		return
	}
	caddyhttp.SetVar(r.Context(), varKey, new(mark))
}

// Refused marks the request as answered by the circuit breaker itself, with a
// fallback or an error, and not by the service. It does nothing where no handler
// in front watches.
func Refused(r *http.Request) {
	if m := of(r); m != nil {
		m.refused.Store(true)
	}
}

// Reset removes the mark, before another upstream is asked.
func Reset(r *http.Request) {
	if m := of(r); m != nil {
		m.refused.Store(false)
	}
}

// WasRefused reports whether a circuit breaker answered in place of the service.
func WasRefused(r *http.Request) bool {
	m := of(r)
	return m != nil && m.refused.Load()
}
