package ratelimit

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	redisstore "github.com/pythopus/tentagate/ratelimit/internal/redis"
)

// chainVar is the name under which the request's chain is kept in Caddy's
// variables.
const chainVar = "tentagate.ratelimit"

// chain is what the ratelimit handlers of one request know of one another: the
// checks that were decided, in the order of their groups.
type chain struct {
	checks []*check
	taken  int
	group  int // where the latest group begins in checks

	// waited is for how long the request has waited for Redis: its decisions
	// share one budget.
	waited time.Duration
}

func chainOf(r *http.Request) *chain {
	if ch, ok := caddyhttp.GetVar(r.Context(), chainVar).(*chain); ok {
		return ch
	}
	ch := &chain{}
	caddyhttp.SetVar(r.Context(), chainVar, ch)
	return ch
}

// take returns the check that was decided for h by a handler before it, once.
func (ch *chain) take(h *Handler) *check {
	for i := ch.taken; i < len(ch.checks); i++ {
		if ch.checks[i].h == h {
			ch.checks[i], ch.checks[ch.taken] = ch.checks[ch.taken], ch.checks[i]
			ch.taken++
			return ch.checks[ch.taken-1]
		}
	}
	return nil
}

// done reports whether h has had its turn.
func (ch *chain) done(h *Handler) bool {
	return slices.ContainsFunc(ch.checks[:ch.taken], func(c *check) bool { return c.h == h })
}

// latest returns the checks of the group that was decided last.
func (ch *chain) latest() []*check { return ch.checks[ch.group:] }

// refund gives back everything that the request has taken so far.
func (ch *chain) refund() {
	for _, c := range ch.checks {
		if !c.h.Shadow {
			c.refund()
		}
	}
}

// decide decides for h and for the ratelimit handlers that directly follow it,
// all or none. It returns the check that refused, or nil. Refused or not, the
// checks of the group are in the chain afterwards.
func (ch *chain) decide(r *http.Request, h *Handler) *check {
	ch.group = len(ch.checks)
	members := h.group.members(r, h)
	var asking []*check
	var refused *check
	for _, m := range members {
		c := m.prepare(r)
		c.chain = ch
		ch.checks = append(ch.checks, c)
		if c.tier == nil && c.decision.Wait > 0 && !m.Shadow && refused == nil {
			refused = c
		}
		switch {
		case !c.asks():
		case m.CountAfter:
			// Nothing is taken before the answer.
			m.zone.peek(c)
			if !c.decision.Admitted() && !m.Shadow && refused == nil {
				refused = c
			}
		case m.Shadow:
			// It must neither refuse nor be refused by the others.
			m.zone.decide(c)
		default:
			asking = append(asking, c)
		}
	}
	if refused == nil && len(asking) > 0 {
		refused = decideAll(asking)
	}
	for _, c := range ch.latest() {
		c.account(refused)
	}
	if refused != nil {
		ch.refund()
	}
	return refused
}

// account notes and counts the outcome of a check.
func (c *check) account(refused *check) {
	m := c.h.metrics
	switch {
	case c.outcome == outcomeExempt && !c.asks():
		m.count(outcomeExempt)
		return
	case c.decision.Source == gcra.Unavailable && !c.decision.Admitted():
		c.outcome = outcomeUnavailable
	case !c.decision.Admitted() && c.h.Shadow:
		c.outcome = outcomeShadow
	case !c.decision.Admitted():
		c.outcome = outcomeLimited
	case refused != nil && !c.h.Shadow:
		// Another zone refused, so this one has nothing to count.
		return
	case c.decision.Delay > 0:
		c.outcome = outcomeDelayed
	}
	m.count(c.outcome)
	if c.asks() {
		m.countSource(c.decision.Source)
		if !c.h.CountAfter {
			c.h.zone.hot.add(c.key, c.cost)
		}
	}
}

// refund gives the units of the check back, once.
func (c *check) refund() {
	if c.counted {
		c.counted = false
		c.h.zone.refund(c)
	}
}

// decideAll takes the units of all checks or of none and returns the check that
// refused.
//
// What is in memory is looked at first and taken last, so that a refusal of one
// zone does not touch another even for a moment. Zones of one Redis are decided
// by one script; where that is not possible (Cluster, leases, windows, quotas),
// one after the other, the most selective first, so that what has to be given
// back is the refused client's own.
func decideAll(checks []*check) *check {
	if len(checks) == 1 {
		checks[0].h.zone.decide(checks[0])
		return firstRefused(checks)
	}
	slices.SortStableFunc(checks, selectivity)
	var inMemory, inRedis []*check
	for _, c := range checks {
		if c.h.zone.redis != nil {
			inRedis = append(inRedis, c)
			continue
		}
		inMemory = append(inMemory, c)
		c.h.zone.memory.Peek(c.key, c.tier.plan, c.cost, &c.decision)
	}
	if refused := firstRefused(inMemory); refused != nil {
		return refused
	}
	if refused := decideRedis(inRedis); refused != nil {
		return refused
	}
	for _, c := range inMemory {
		if c.h.zone.decide(c); !c.decision.Admitted() {
			// Others took the units since they were seen.
			refundAll(checks)
			return c
		}
	}
	return nil
}

// decideRedis decides the checks whose zones are in Redis.
func decideRedis(checks []*check) *check {
	if len(checks) > 1 {
		calls := make([]redisstore.Call, len(checks))
		for i, c := range checks {
			calls[i] = c.call()
		}
		began := time.Now()
		if redisstore.DecideAll(calls) {
			now := time.Now()
			checks[0].chain.waited += now.Sub(began)
			for _, c := range checks {
				c.decided, c.counted = now, true
				c.h.metrics.latency.Observe(now.Sub(began).Seconds())
			}
			if refused := firstRefused(checks); refused != nil {
				for _, c := range checks {
					c.counted = false // the script took nothing
				}
				return refused
			}
			return nil
		}
	}
	for _, c := range checks {
		if c.h.zone.decide(c); !c.decision.Admitted() {
			refundAll(checks)
			return c
		}
	}
	return nil
}

func firstRefused(checks []*check) *check {
	for _, c := range checks {
		if !c.decision.Admitted() {
			return c
		}
	}
	return nil
}

func refundAll(checks []*check) {
	for _, c := range checks {
		c.refund()
	}
}

// selectivity orders the zones that concern fewest clients first: those whose
// key differs between clients before those that are for all together, and among
// equals the smaller rate.
func selectivity(a, b *check) int {
	if x, y := a.h.key.constant(), b.h.key.constant(); x != y {
		if x {
			return 1
		}
		return -1
	}
	return cmp.Compare(a.tier.plan.PerSecond(), b.tier.plan.PerSecond())
}
