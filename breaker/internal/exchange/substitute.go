package exchange

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/breaker/internal/registry"
	"github.com/pythopus/tentagate/internal/circuitstate"
)

// Substitute is why the transport answered in place of an upstream. It answers
// where an error would make reverse_proxy count a failure of the upstream, or try
// again. The handler circuit_breaker replaces such an answer with its own.
type Substitute struct {
	Status int
	Open   *registry.OpenError // all circuits refused the request, or
	Fault  error               // the client's fault
}

// Mark is where a transport records its substitute answer. It is put into
// Caddy's variables of the request before the proxy is called, and only its
// value changes afterwards: a connection that is still being dialed for a request
// reads the variables.
type Mark = atomic.Pointer[Substitute]

// markVar is the name of the Mark among Caddy's variables of the request.
const markVar = "tentagate.breaker.substitute"

// ExpectSubstitute lets the transports behind use the mark, or that of a handler
// in front.
func ExpectSubstitute(r *http.Request, mark *Mark) {
	if vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok && vars[markVar] == nil {
		vars[markVar] = mark
	}
}

// SetSubstitute records a substitute answer.
func SetSubstitute(vars map[string]any, s *Substitute) {
	if mark, _ := vars[markVar].(*Mark); mark != nil {
		mark.Store(s)
	}
}

// ResetSubstitute removes what an earlier attempt recorded.
func ResetSubstitute(r *http.Request, vars map[string]any) {
	if mark, _ := vars[markVar].(*Mark); mark != nil && mark.Load() != nil {
		mark.Store(nil)
	}
	circuitstate.Reset(r)
}

// SubstituteFor returns why the transport answered with the status itself, or
// nil if it did not.
func SubstituteFor(r *http.Request, status int) *Substitute {
	mark, _ := caddyhttp.GetVar(r.Context(), markVar).(*Mark)
	if mark == nil {
		return nil
	}
	if s := mark.Load(); s != nil && s.Status == status {
		return s
	}
	return nil
}

// InvalidAnswerError is an answer of a backend that must not be sent on.
type InvalidAnswerError string

func (e InvalidAnswerError) Error() string { return "the backend " + string(e) }

// ErrUnaskedUpgrade is a 101 to a request without that Upgrade (RFC 9110 §15.2.2).
const ErrUnaskedUpgrade = InvalidAnswerError("switched to a protocol that it was not asked for")

// CheckStatus refuses a status that HTTP does not have (RFC 9110 §15), at which
// Go's server panics.
func CheckStatus(status int) error {
	if status < 100 || status > 999 {
		return InvalidAnswerError(fmt.Sprintf("answered with the status %03d", status))
	}
	return nil
}

// CheckAnswer refuses answers that reverse_proxy would turn into others.
func CheckAnswer(r *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if asked := r.Header.Get("Upgrade"); asked == "" || !strings.EqualFold(asked, resp.Header.Get("Upgrade")) {
			return ErrUnaskedUpgrade
		}
	}
	return CheckStatus(resp.StatusCode)
}
