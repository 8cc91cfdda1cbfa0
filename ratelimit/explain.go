package ratelimit

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pythopus/tentagate/internal/explain"
	"github.com/pythopus/tentagate/internal/requeststate"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// Explain says what is left of the limits, and whether the request is within them. The
// handlers that are decided together are looked at together.
func (h *Handler) Explain(t *explain.Trace, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	checks := checksOf(r)
	requeststate.Of(r).Decisions.Limits = checks
	c := checks.of(h)
	if c == nil {
		group, refused := checks.foresee(r, h)
		if refused != nil {
			return explainRefusal(t, w, group, refused)
		}
		c = group[0]
	}
	if c.served {
		return next.ServeHTTP(w, r)
	}
	c.served = true
	facts := c.facts()
	if h.MaxConcurrent > 0 && c.tier != nil {
		inProgress := h.zone.concurrency.count(c.key)
		facts["in_progress"] = strconv.Itoa(inProgress)
		if inProgress >= h.maxConcurrent() && !h.Shadow {
			return t.Refuse(h.refuseConcurrency(w), fmt.Sprintf("zone %s: %d of %d are in progress", h.Zone, inProgress, h.maxConcurrent()), facts)
		}
	}
	t.Pass(c.describe(), facts)
	return next.ServeHTTP(w, r)
}

// foresee is decide without taking anything.
func (rc *requestChecks) foresee(r *http.Request, h *Handler) (group []*check, refused *check) {
	begin := len(rc.all)
	for _, member := range h.group.members(r, h) {
		rc.add(r, member)
	}
	group = rc.all[begin:]
	for _, c := range group {
		c.foresee(r.Context())
		if c.refuses() && (refused == nil || c.tier == nil && refused.tier != nil) {
			refused = c
		}
	}
	return group, refused
}

// foresee reads whether the units are available, from Redis too, and takes none.
func (c *check) foresee(ctx context.Context) {
	if !c.metered() {
		return
	}
	z := c.handler.zone
	if z.redis == nil {
		z.memory.Peek(c.key, c.tier.plan, c.cost, &c.decision)
		return
	}
	limit := adminTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	call := c.redisCall()
	call.Foresee(limit)
}

// refuses reports whether the request is refused.
func (c *check) refuses() bool {
	if c.decision.Admitted() || c.handler.Shadow {
		return false
	}
	c.outcome = outcomeLimited
	if c.decision.Source == gcra.Unavailable {
		c.outcome = outcomeUnavailable
	}
	return true
}

// explainRefusal records the limits that are decided together: one of them refuses.
func explainRefusal(t *explain.Trace, w http.ResponseWriter, group []*check, refused *check) error {
	err := refused.refuse(w, group)
	for _, c := range group {
		c.served = true
		if own := t.Of(c.handler); c.refuses() {
			_ = own.Refuse(err, c.describe(), c.facts())
		} else {
			own.Pass(c.describe(), c.facts())
		}
	}
	return err
}

// describe says what is left, in a sentence.
func (c *check) describe() string {
	h := c.handler
	zone := "zone " + h.Zone + ": "
	switch {
	case c.tier == nil && c.decision.Wait == gcra.Never:
		return zone + "the request has no value for the key " + h.keyText()
	case c.tier == nil:
		return zone + "the request does not count: its client is exempt, or it has no key"
	case c.tier.plan == nil:
		return zone + "no limits apply, in the tier " + c.tier.name
	case c.cost == 0:
		return zone + "the request costs nothing"
	case c.decision.Source == gcra.Unavailable:
		return zone + "Redis is unavailable, and on_store_error is deny"
	case c.decision.Source == gcra.Unchecked:
		return zone + "Redis is unavailable, and on_store_error is allow"
	}
	text := zone + c.left()
	if c.decision.Source == gcra.Local {
		text += ", as Redis is unavailable"
	}
	if c.cost != 1 {
		text += fmt.Sprintf("; the request costs %d", c.cost)
	}
	if len(h.CountStatus) > 0 {
		text += "; only responses " + strings.Join(h.CountStatus, " ") + " count"
	}
	if h.Mode == modeLeased && !c.decision.Admitted() && c.decision.Source != gcra.Local {
		text += "; units that this gateway has reserved before may still admit it"
	}
	switch short := c.short(); {
	case short && h.Shadow:
		text += "; it would be refused but for shadow"
	case short && h.Delay > 0 && c.decision.Admitted():
		text += "; it waits up to " + time.Duration(h.Delay).String()
	}
	return text
}

// short reports whether not enough is left.
func (c *check) short() bool {
	return c.decision.Len > 0 && c.decision.Meters[nearest(&c.decision)].Remaining < c.cost
}

// left says what is left of each limit, before the request.
func (c *check) left() string {
	parts := make([]string, 0, c.decision.Len)
	for i := range c.decision.Len {
		_, limit := c.tier.plan.Text(i)
		parts = append(parts, fmt.Sprintf("%d left of %s", c.decision.Meters[i].Remaining, limit))
	}
	return strings.Join(parts, ", ")
}

// facts are the zone, how the key is made, and what is left.
func (c *check) facts() explain.Facts {
	h := c.handler
	facts := explain.Facts{"zone": h.Zone, "key": h.keyText()}
	if c.tier == nil {
		return facts
	}
	if len(h.key.parts) == 1 && h.key.parts[0].address && !strings.HasPrefix(c.key, ownPrefix) {
		facts["key_value"] = c.key // other keys may be secrets of the client
	}
	facts["tier"], facts["cost"] = c.tier.name, strconv.FormatInt(c.cost, 10)
	if c.decision.Len > 0 {
		least := c.decision.Meters[nearest(&c.decision)]
		facts["remaining"] = strconv.FormatInt(least.Remaining, 10)
		facts["reset_seconds"] = strconv.FormatInt(seconds(least.Reset), 10)
		facts["source"] = c.decision.Source.String()
	}
	return facts
}

// keyText is the key as the configuration has it.
func (h *Handler) keyText() string { return strings.Join(h.Key, " ") }

// Interface guard
var _ explain.Handler = (*Handler)(nil)
