package registry

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/circuitstate"
)

// ownVar is the name under which a transport leaves word of its own answer in
// Caddy's variables of the request.
const ownVar = "tentagate.breaker.own"

// Own is why the transport answered in place of an upstream: with an answer, as
// after an error reverse_proxy would count against the upstream, or try again.
// The handler circuit_breaker replaces that answer with its own.
type Own struct {
	Status int
	Open   *OpenError // a refusal of the circuits, or
	Fault  error      // what the client did wrong
}

// SetOwn leaves word of an answer that no upstream gave.
func SetOwn(vars map[string]any, own *Own) { vars[ownVar] = own }

// ResetOwn takes the word back before an upstream is asked again.
func ResetOwn(r *http.Request, vars map[string]any) {
	if vars[ownVar] != nil {
		delete(vars, ownVar)
		circuitstate.Reset(r)
	}
}

// OwnAnswer returns why the transport answered with the status itself, or nil.
func OwnAnswer(r *http.Request, status int) *Own {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if own, _ := vars[ownVar].(*Own); own != nil && own.Status == status {
		return own
	}
	return nil
}
