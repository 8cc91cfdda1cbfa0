package ratelimit

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

// errQueueFull tells that too many requests are held back already.
var errQueueFull = errors.New("too many requests are waiting")

// hold waits until an admitted request is within its limits. When the queue is
// full, or the client goes away, the units of the whole chain are given back.
func (c *check) hold(r *http.Request, ch *chain) error {
	h := c.h
	select {
	case h.delayed <- struct{}{}:
	default:
		ch.refund()
		c.outcome = outcomeLimited
		h.metrics.count(outcomeLimited)
		return errQueueFull
	}
	defer func() { <-h.delayed }()
	// Handlers before this one may have waited since the decision.
	timer := time.NewTimer(time.Duration(c.decision.Delay) - time.Since(c.decided))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.Context().Done():
		ch.refund()
		return caddyhttp.Error(statusClientClosed, r.Context().Err())
	}
}

// delayDuration reads the longest time to hold a request back; `off` and zero
// are none.
func delayDuration(s string) (caddy.Duration, bool) {
	if s == "off" || s == "0" {
		return 0, true
	}
	d, err := caddy.ParseDuration(s)
	return caddy.Duration(d), err == nil && d >= 0 && d <= time.Minute
}

// tooManyHeld is the answer to a request that finds the queue full. What made it
// wait are the limits that have nothing left.
func (c *check) tooManyHeld(err error) *problem.Problem {
	if !errors.Is(err, errQueueFull) {
		return nil
	}
	violated := make([]string, 0, c.decision.Len)
	for i, name := range c.tier.names[:c.decision.Len] {
		if c.decision.Meters[i].Remaining == 0 {
			violated = append(violated, name)
		}
	}
	return &problem.Problem{
		Type:   typeQuotaExceeded,
		Title:  "Quota Exceeded",
		Status: http.StatusTooManyRequests,
		Detail: "too many requests are waiting for their turn; try again later",
		Ext:    map[string]any{"violated-policies": violated},
	}
}

// concurrency counts the requests in progress per key. Keys without any take
// no memory.
type concurrency struct {
	mu   sync.Mutex
	keys map[string]int
}

// acquire takes one of n places of a key.
func (c *concurrency) acquire(key string, n int) (release func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys[key] >= n {
		return nil, false
	}
	if c.keys == nil {
		c.keys = make(map[string]int)
	}
	c.keys[key]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.keys[key]--; c.keys[key] == 0 {
			delete(c.keys, key)
		}
	}, true
}

// concurrencyShare is this gateway's part of max_concurrent, rounded up.
func (h *Handler) concurrencyShare() int {
	n := h.instances()
	return max(1, (h.MaxConcurrent+n-1)/n)
}

func (h *Handler) refuseConcurrency(w http.ResponseWriter) error {
	name := h.Zone + "-concurrent"
	if h.Headers != headersOff && h.Headers != headersLegacy {
		addField(w.Header(), fieldPolicy, string(appendString(nil, name))+";q="+strconv.Itoa(h.MaxConcurrent)+`;qu="concurrent-requests"`)
		addField(w.Header(), fieldRateLimit, string(appendString(nil, name))+";r=0;t=1")
	}
	// When a place becomes free nobody can tell.
	w.Header().Set(fieldRetry, "1")
	return problem.Error(&problem.Problem{
		Type:   typeQuotaExceeded,
		Title:  "Quota Exceeded",
		Status: http.StatusTooManyRequests,
		Detail: "too many requests are in progress at once",
		Ext:    map[string]any{"violated-policies": []string{name}},
	})
}
