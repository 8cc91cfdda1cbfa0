// Package circuitstate carries from a circuit breaker to the handlers in front
// of it whether it answered in place of the service. Such an answer is over
// when the service is back, so it must be neither stored nor taken for the
// service's. The state of the circuit does not say so: with `mode observe` an
// open circuit lets everything through, and a half-open one refuses most.
package circuitstate

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// varKey is the name of the marker among Caddy's variables of the request.
const varKey = "tentagate.circuit_refused"

// Refused marks the request as answered by the circuit breaker itself, with a
// fallback or an error, and not by the service.
func Refused(r *http.Request) {
	caddyhttp.SetVar(r.Context(), varKey, true)
}

// Reset removes the mark, before the service is asked again for one request.
func Reset(r *http.Request) {
	if WasRefused(r) {
		caddyhttp.SetVar(r.Context(), varKey, false)
	}
}

// WasRefused reports whether a circuit breaker answered in place of the service.
func WasRefused(r *http.Request) bool {
	refused, _ := caddyhttp.GetVar(r.Context(), varKey).(bool)
	return refused
}
