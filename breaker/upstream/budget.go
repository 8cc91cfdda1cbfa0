package upstream

import (
	"cmp"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/pythopus/tentagate/internal/problem"
)

// RetryBudget limits retries, so that they cannot multiply the load of a backend
// that already fails. A share of the requests of the last ten seconds may be
// retried, and a few in any second.
//
// The gateway answers a request that may not be retried with 503 and Retry-After
// at once. Where lb_retry_match retries 503, the client gets that status without
// the field, but the backend gets no request.
type RetryBudget struct {
	// Share of the requests, above 0 to 1. Default: 0.2.
	Ratio float64 `json:"ratio,omitempty"`

	// How many retries are allowed in any second, however few requests there are;
	// -1 for none. Default: 3.
	MinPerSecond int `json:"min_per_second,omitempty"`
}

// Defaults of RetryBudget.
const (
	defaultRetryRatio = .2
	defaultRetryMin   = 3
)

func (b *RetryBudget) check() error {
	b.Ratio = cmp.Or(b.Ratio, defaultRetryRatio)
	b.MinPerSecond = cmp.Or(b.MinPerSecond, defaultRetryMin)
	if !(b.Ratio > 0 && b.Ratio <= 1) || b.MinPerSecond < -1 || b.MinPerSecond > 1_000_000 {
		return errors.New("retry_budget: the share is above 0 and at most 1, the number per second is at least 1, or -1 for none")
	}
	return nil
}

// budgetSeconds is how long requests and retries count.
const budgetSeconds = 10

// budget counts requests and retries by the second.
type budget struct {
	RetryBudget
	now   func() time.Time
	start time.Time

	mu       sync.Mutex
	second   int64                // the newest; guarded by mu
	requests [budgetSeconds]int64 // by second; guarded by mu
	retries  [budgetSeconds]int64 // by second; guarded by mu
	allReq   int64                // their sums; guarded by mu
	allRetry int64                // guarded by mu
}

func newBudget(b RetryBudget, now func() time.Time) *budget {
	return &budget{RetryBudget: b, now: now, start: now()}
}

// advance removes the seconds that have passed, and returns the index of the
// current one. b.mu is held.
func (b *budget) advance() int64 {
	now := int64(b.now().Sub(b.start) / time.Second)
	for s := max(b.second+1, now-budgetSeconds+1); s <= now; s++ {
		i := s % budgetSeconds
		b.allReq -= b.requests[i]
		b.allRetry -= b.retries[i]
		b.requests[i], b.retries[i] = 0, 0
	}
	b.second = max(b.second, now)
	return b.second % budgetSeconds
}

// request counts a first attempt.
func (b *budget) request() {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.advance()
	b.requests[i]++
	b.allReq++
}

// retry reports whether a retry is allowed, and counts it.
func (b *budget) retry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.advance()
	if b.retries[i] >= int64(b.MinPerSecond) && float64(b.allRetry+1) > b.Ratio*float64(b.allReq) {
		return false
	}
	b.retries[i]++
	b.allRetry++
	return true
}

// spend counts an attempt. It returns the answer to a request that may not be
// retried, as an error would make reverse_proxy retry, or wait. circuit_breaker
// counts that answer as the backend's, whose first attempt failed.
func (t *Transport) spend(r *http.Request, l *trial) *http.Response {
	switch {
	case t.budget == nil:
		return nil
	case l.attempts == 1:
		t.budget.request()
		return nil
	case t.budget.retry():
		return nil
	}
	resp := response(r, problem.New(http.StatusServiceUnavailable, "the service failed, and its retry budget is exhausted"))
	resp.Header.Set("Retry-After", "1")
	resp.Header.Set("Proxy-Status", "tentagate; error=destination_unavailable") // RFC 9209 §2.3.4
	return resp
}
