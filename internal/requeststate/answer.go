package requeststate

import (
	"net/http"

	"github.com/pythopus/tentagate/internal/framing"
	"github.com/pythopus/tentagate/internal/headers"
)

// Answer is the response writer of the outermost handler. It withholds an answer
// that reverse_proxy gives a client for gone that is not.
type Answer struct {
	headers.Writer
	Request *http.Request
	// Late: the request body did not arrive in time.
	Late bool
}

// BeforeHeader does nothing; the writer is for Sent.
func (*Answer) BeforeHeader(http.Header, int) {}

// StatusClientClosed is the status by which Caddy records that the client closed
// its request. No client receives it.
const StatusClientClosed = 499

// WriteHeader sends the header. Go's server cancels the request of a body that
// does not arrive in time as if its client had left; that client is answered.
func (a *Answer) WriteHeader(status int) {
	if status == StatusClientClosed && !a.Sent() && framing.From(a.Request.Context()).Overdue() != nil {
		a.Late = true
		return
	}
	a.Writer.WriteHeader(status)
}
