package registry

import (
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/circuitstate"
)

// ownVar is the name under which the handler circuit_breaker keeps an OwnMark in
// Caddy's variables of the request.
const ownVar = "tentagate.breaker.own"

// OwnMark is where a transport leaves word of its own answer. It is put into the
// variables before the proxy is called: afterwards nothing may change in them,
// as a connection that is still being dialled for a request reads them.
type OwnMark = atomic.Pointer[Own]

// Own is why the transport answered in place of an upstream: with an answer, as
// after an error reverse_proxy would count against the upstream, or try again.
// The handler circuit_breaker replaces that answer with its own.
type Own struct {
	Status int
	Open   *OpenError // a refusal of the circuits, or
	Fault  error      // what the client did wrong
}

// WatchOwn lets the transports behind leave word in the mark, or in that of a
// handler in front.
func WatchOwn(r *http.Request, mark *OwnMark) {
	if vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok && vars[ownVar] == nil {
		vars[ownVar] = mark
	}
}

// SetOwn leaves word of an answer that no upstream gave.
func SetOwn(vars map[string]any, own *Own) {
	if mark, _ := vars[ownVar].(*OwnMark); mark != nil {
		mark.Store(own)
	}
}

// ResetOwn takes the word back before an upstream is asked again.
func ResetOwn(r *http.Request, vars map[string]any) {
	if mark, _ := vars[ownVar].(*OwnMark); mark != nil && mark.Load() != nil {
		mark.Store(nil)
	}
	circuitstate.Reset(r)
}

// OwnAnswer returns why the transport answered with the status itself, or nil.
func OwnAnswer(r *http.Request, status int) *Own {
	mark, _ := caddyhttp.GetVar(r.Context(), ownVar).(*OwnMark)
	if mark == nil {
		return nil
	}
	if own := mark.Load(); own != nil && own.Status == status {
		return own
	}
	return nil
}
