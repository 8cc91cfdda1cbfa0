package ratelimit

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/problem"
)

// statusClientClosed is what Caddy uses for a client that canceled its request.
const statusClientClosed = 499

// ServeHTTP admits the request or refuses it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.run)
}

// serve decides about the request, unless a ratelimit handler in front has
// decided for this one too.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	checks := checksOf(r)
	c := checks.of(h)
	if c == nil {
		group, refused := checks.decide(r, h)
		if refused != nil {
			for _, c := range group {
				c.served = true
			}
			return refused.refuse(w, group)
		}
		c = group[0]
	}
	if c.served {
		// The handlers run again for the same request, as in an error route: it was
		// counted.
		return next.ServeHTTP(w, r)
	}
	c.served = true
	return c.serve(w, r, next)
}

// serve lets an admitted request through: within max_concurrent, after its
// delay, and counted by the status of its response.
func (c *check) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h := c.handler
	if h.MaxConcurrent > 0 && c.tier != nil {
		switch {
		case h.zone.concurrency.acquire(c.key, h.maxConcurrent()):
			defer h.zone.concurrency.release(c.key)
		case h.Shadow:
			h.metrics.count(outcomeShadowLimited)
		default:
			c.drop(outcomeConcurrencyLimited)
			return h.refuseConcurrency(w)
		}
	}
	if !h.Shadow && !h.CountAfter {
		c.writeFields(w.Header())
	}
	if c.decision.Delay > 0 && !h.Shadow {
		switch err := c.wait(r.Context()); {
		case errors.Is(err, errQueueFull):
			c.drop(outcomeLimited)
			return c.refuseDelay(w)
		case err != nil:
			c.request.refund()
			return caddyhttp.Error(statusClientClosed, err)
		}
	}
	if len(h.CountStatus) > 0 && (c.reserved || h.CountAfter && c.metered()) {
		return c.countByStatus(w, r, next)
	}
	return next.ServeHTTP(w, r)
}

// drop gives everything back that the request has taken, as it is refused after
// all.
func (c *check) drop(o outcome) {
	c.request.refund()
	c.outcome = o
	c.handler.metrics.count(o)
}
