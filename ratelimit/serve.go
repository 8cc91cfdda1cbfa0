package ratelimit

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/accesslog"
	"github.com/pythopus/tentagate/internal/placeholders"
	"github.com/pythopus/tentagate/internal/problem"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/internal/stage"
)

// ServeHTTP admits the request or refuses it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return problem.Serve(w, r, next, h.run)
}

// serve decides about the request, unless a ratelimit handler in front has
// decided for this one too.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s := requeststate.Of(r)
	if s != nil {
		s.Decisions.Stages.Enter(stage.Limit)
	}
	checks := checksOf(r)
	if s != nil {
		s.Decisions.Limits = checks
		accesslog.Add(r, s)
	}
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
			return caddyhttp.Error(requeststate.StatusClientClosed, err)
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

// requestChecks are the checks of one request, in the order in which they were
// decided. The ratelimit handlers of a request find one another here.
type requestChecks struct {
	all []*check

	// redisWait is how long the request has waited for Redis; nil without a zone
	// in Redis.
	redisWait *availability.Budget

	// Most requests have few checks: these are allocated together.
	first check
	slots [3]*check
}

// checksOf returns the checks of a request, which provide its placeholders. A copy
// of the request, which runs in another goroutine, has separate checks.
func checksOf(r *http.Request) *requestChecks {
	checks, ok := placeholders.Provided[*requestChecks](r)
	if !ok {
		checks = new(requestChecks)
		checks.all = checks.slots[:0]
		placeholders.Provide(r, checks)
	}
	return checks
}

// of returns the check of a handler, or nil if there is none yet.
func (rc *requestChecks) of(h *Handler) *check {
	for _, c := range rc.all {
		if c.handler == h {
			return c
		}
	}
	return nil
}

// add makes the check of a handler.
func (rc *requestChecks) add(r *http.Request, h *Handler) {
	c := &rc.first
	if len(rc.all) > 0 {
		c = new(check)
	}
	c.handler, c.request = h, rc
	if rc.redisWait == nil && h.zone.redis != nil {
		rc.redisWait = app.WaitBudget(r)
	}
	c.prepare(r)
	rc.all = append(rc.all, c)
}

// refund gives back everything that the request has taken so far.
func (rc *requestChecks) refund() {
	for _, c := range rc.all {
		if !c.handler.Shadow {
			c.refund()
		}
	}
}
