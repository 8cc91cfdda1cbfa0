package upstream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/pythopus/tentagate/breaker/internal/exchange"
)

// maxKept is the largest body that is kept for a retry, in bytes.
const maxKept = 64 << 10

// methodQuery is a safe method with a body (RFC 10008).
const methodQuery = "QUERY"

// trial has what is known about the attempts of a request. There is one only if
// reverse_proxy may retry; its methods may be called on nil.
type trial struct {
	began    time.Time // by the clock of reverse_proxy
	attempts int
	refusals int
	shortest time.Duration // of the waits of the circuits that refused it
	balance  *reverseproxy.LoadBalancing
	content  []byte // the body, kept for a retry
	kept     bool
	spent    bool // the body was read and not kept: there is nothing to send again
}

// errSpent is the error of another attempt without a body to send.
var errSpent = errors.New("the request body was sent to another upstream, and was too large to be kept for a retry")

// trial returns the trial of a request that begins another attempt.
func (t *Transport) trial(vars map[string]any) *trial {
	balance := t.balance()
	if balance == nil && t.budget == nil {
		return nil
	}
	known, _ := vars[t.state].(*trial)
	if known == nil {
		known = &trial{began: time.Now(), balance: balance}
		vars[t.state] = known
	}
	known.attempts++
	return known
}

// balance returns how the proxy retries, or nil if it does not.
func (t *Transport) balance() *reverseproxy.LoadBalancing {
	if t.proxy == nil || t.proxy.LoadBalancing == nil {
		return nil
	}
	if b := t.proxy.LoadBalancing; b.Retries > 0 || b.TryDuration > 0 {
		return b
	}
	return nil
}

// left returns for how long reverse_proxy would go on retrying, and false if this
// is the last attempt.
func (l *trial) left() (time.Duration, bool) {
	if l == nil || l.balance == nil {
		return 0, false
	}
	b := l.balance
	rest := time.Duration(b.TryDuration) - time.Since(l.began)
	if b.TryDuration > 0 && rest <= 0 {
		return 0, false
	}
	if b.Retries > 0 {
		tries := b.Retries - (l.attempts - 1)
		if tries <= 0 {
			return 0, false
		}
		pauses := time.Duration(tries) * time.Duration(b.TryInterval)
		if b.TryDuration == 0 || pauses < rest {
			rest = pauses
		}
	}
	return rest, true
}

// again reports whether the request may be retried although an upstream may have
// received it. Of the safe methods, reverse_proxy knows only GET; lb_retry_match
// replaces both.
func (l *trial) again(r *http.Request) bool {
	if l == nil || l.balance == nil || l.balance.RetryMatch != nil {
		return false
	}
	switch r.Method {
	case http.MethodHead, http.MethodOptions, http.MethodTrace:
		return !exchange.HasBody(r)
	case methodQuery:
		return l.kept || !exchange.HasBody(r)
	}
	return false
}

// keeps reports whether the body of a request is kept for a retry.
func (l *trial) keeps(r *http.Request) bool {
	return l != nil && l.balance != nil && l.balance.RetryMatch == nil && l.attempts == 1 &&
		(r.Method == methodQuery || r.Method == http.MethodGet) && r.ContentLength <= maxKept && len(r.Trailer) == 0
}

// keep reads the body of a request and replaces it with the copy. One that is too
// large is sent as it comes, once.
func (l *trial) keep(r *http.Request) error {
	content, err := io.ReadAll(io.LimitReader(r.Body, maxKept+1))
	if err != nil {
		return err
	}
	if len(content) > maxKept || len(r.Trailer) > 0 {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(content), r.Body), r.Body}
		return nil
	}
	l.content, l.kept = content, true
	r.Body, r.ContentLength = l.body(), int64(len(content))
	return nil
}

// spend notes that an attempt has failed which read the body.
func (l *trial) spend(started bool) {
	if l != nil && started && !l.kept {
		l.spent = true
	}
}

// replays reports whether a body was kept.
func (l *trial) replays() bool { return l != nil && l.kept }

func (l *trial) body() io.ReadCloser {
	if len(l.content) == 0 {
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(l.content))
}

// retryable is the error of an attempt that reverse_proxy is to retry: it retries
// dial errors of any method.
type retryable struct {
	reverseproxy.DialError
	err error
}

// Unwrap returns what reverse_proxy looks for, and what happened.
func (e retryable) Unwrap() []error { return []error{e.DialError, e.err} }

// Timeout reports whether no answer came in time, which decides reverse_proxy's
// status.
func (e retryable) Timeout() bool {
	timeout, ok := e.err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

// Temporary makes it a net.Error.
func (e retryable) Temporary() bool { return true }
