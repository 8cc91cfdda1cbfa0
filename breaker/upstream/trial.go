package upstream

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// maxKept is how much of a body is kept so that the request can be sent again.
const maxKept = 64 << 10

// methodQuery is a method with a body that is safe all the same (RFC 10008).
const methodQuery = "QUERY"

// trial is what is known of a request over its attempts. It is made only where
// reverse_proxy is told to try again; its methods may be called on nil.
type trial struct {
	began    time.Time // by the clock of reverse_proxy
	attempts int
	refusals int
	shortest time.Duration // of the waits of the circuits that refused it
	balance  *reverseproxy.LoadBalancing
	content  []byte // the body, kept to be sent again
	kept     bool
}

// trial returns what is known of the request, which begins another attempt.
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

// balance returns how the proxy tries again, or nil if it does not.
func (t *Transport) balance() *reverseproxy.LoadBalancing {
	if t.proxy == nil || t.proxy.LoadBalancing == nil {
		return nil
	}
	if b := t.proxy.LoadBalancing; b.Retries > 0 || b.TryDuration > 0 {
		return b
	}
	return nil
}

// left returns for how long reverse_proxy would go on trying, and false if this
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

// again reports whether the request may be sent again although an upstream may
// have got it: of the safe methods, reverse_proxy knows GET alone. Where
// lb_retry_match says what to send again, it has the word.
func (l *trial) again(r *http.Request) bool {
	if l == nil || l.balance == nil || l.balance.RetryMatch != nil {
		return false
	}
	switch r.Method {
	case http.MethodHead, http.MethodOptions, http.MethodTrace:
		return r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0
	case methodQuery:
		return l.kept || r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0
	}
	return false
}

// keeps reports whether the body of a request is kept.
func (l *trial) keeps(r *http.Request) bool {
	return l != nil && l.balance != nil && l.balance.RetryMatch == nil && l.attempts == 1 &&
		r.Method == methodQuery && r.ContentLength <= maxKept && len(r.Trailer) == 0
}

// keep reads the body of a request, which then has the copy in its place. One
// that is too large is sent on as it comes, once.
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

// replays reports whether there is a body that was kept.
func (l *trial) replays() bool { return l != nil && l.kept }

func (l *trial) body() io.ReadCloser {
	if len(l.content) == 0 {
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(l.content))
}

// retryable is the error of an attempt that reverse_proxy is to repeat: it
// repeats dial errors of any method.
type retryable struct {
	reverseproxy.DialError
	err error
}

// Unwrap returns what reverse_proxy looks for, and what happened.
func (e retryable) Unwrap() []error { return []error{e.DialError, e.err} }

// Timeout reports whether there was no answer in time, by which reverse_proxy
// chooses its status.
func (e retryable) Timeout() bool {
	timeout, ok := e.err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

// Temporary makes it a net.Error.
func (e retryable) Temporary() bool { return true }
