package ratelimit

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/internal/headers"
	"github.com/pythopus/tentagate/internal/nearby"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	redisstore "github.com/pythopus/tentagate/ratelimit/internal/redis"
)

// check is what one handler asks of its zone for one request, and the answer.
type check struct {
	handler *Handler
	request *requestChecks

	tier     *tier // nil: exempt, or without a key
	key      string
	cost     int64
	decision gcra.Decision
	decided  time.Time
	outcome  outcome

	// reserved is true while the units are taken.
	reserved bool

	// served is true once the handler has had its turn.
	served bool

	// writer counts by status, and fields hold the values of the response fields:
	// as parts of the check they need no allocation.
	writer headers.Writer
	fields [2][1]string
}

// decide decides for h and for the ratelimit handlers that directly follow it,
// all or none. It returns their checks, and the one that refused or nil.
func (rc *requestChecks) decide(r *http.Request, h *Handler) (group []*check, refused *check) {
	begin := len(rc.all)
	for _, member := range h.group.members(r, h) {
		rc.add(r, member)
	}
	group = rc.all[begin:]
	for _, c := range group {
		if refuses := c.decideAlone(); refuses && refused == nil {
			refused = c
		}
	}
	if refused == nil {
		refused = decideTogether(group)
	}
	for _, c := range group {
		c.record(refused)
	}
	if refused != nil {
		rc.refund()
	}
	return group, refused
}

// prepare finds out what to ask of the handler's zone.
func (c *check) prepare(r *http.Request) {
	h := c.handler
	c.outcome = outcomeExempt
	if len(h.exempt) > 0 && nearby.Client(r, h.exempt) {
		return
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	var ok bool
	if c.key, ok = h.key.render(r, repl, h.IPv6Prefix); !ok {
		switch h.MissingKey {
		case missingSkip:
			return
		case missingReject:
			c.outcome = outcomeLimited
			c.decision.Wait = gcra.Never
			return
		}
		c.key = anonymous(r, h.IPv6Prefix)
	}
	c.tier = h.tierOf(repl)
	c.cost = h.costOf(repl)
	if c.cost > 0 {
		c.outcome = outcomeAllowed
	}
}

// metered reports whether the check needs a decision of its zone: its tier has
// limits, and the request costs something.
func (c *check) metered() bool {
	return c.tier != nil && c.tier.plan != nil && c.cost > 0
}

func (h *Handler) tierOf(repl *caddy.Replacer) *tier {
	if h.Tier != nil {
		if v, ok := repl.GetString(h.tierName); ok {
			if t, ok := h.tiers[v]; ok {
				return t
			}
		}
	}
	return h.tiers[anyTier]
}

func (h *Handler) costOf(repl *caddy.Replacer) int64 {
	if h.costName == "" {
		return h.cost
	}
	text, _ := repl.GetString(h.costName)
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if n < 0 || err != nil && !errors.Is(err, strconv.ErrRange) { // one that is too large is the largest
		return 1
	}
	return min(n, gcra.MaxCost)
}

// decideAlone decides a check that is independent of the others of its group,
// and reports whether it refuses the request: one without a key; one that counts
// after the answer, and takes nothing before; and one in shadow mode, which must
// neither refuse nor be refused by the others.
func (c *check) decideAlone() (refuses bool) {
	h := c.handler
	switch {
	case !c.metered():
	case h.CountAfter:
		c.peek()
	case h.Shadow:
		c.take()
	default:
		return false
	}
	return !c.decision.Admitted() && !h.Shadow
}

// decideTogether takes the units of all other checks of a group or of none, and
// returns the check that refused.
//
// Zones in memory are read first and taken from last, so that a refusal of one
// zone does not touch another even for a moment. Zones of one Redis are decided
// by one script; where that is not possible (Cluster, leases, windows, quotas),
// one after the other, the most selective first, so that what has to be given
// back is the refused client's own.
func decideTogether(group []*check) (refused *check) {
	var buf [4]*check
	checks := buf[:0]
	for _, c := range group {
		if c.metered() && !c.handler.CountAfter && !c.handler.Shadow {
			checks = append(checks, c)
		}
	}
	if len(checks) < 2 {
		return takeAll(checks)
	}
	slices.SortStableFunc(checks, bySelectivity)
	var inMemory, inRedis []*check
	for _, c := range checks {
		if c.handler.zone.redis != nil {
			inRedis = append(inRedis, c)
			continue
		}
		inMemory = append(inMemory, c)
		c.peek()
	}
	if refused = firstRefused(inMemory); refused != nil {
		return refused
	}
	if refused = takeAllInRedis(inRedis); refused != nil {
		return refused
	}
	// Others may have taken the units since they were seen.
	if refused = takeAll(inMemory); refused != nil {
		refundAll(inRedis)
	}
	return refused
}

// bySelectivity orders the zones that concern fewest clients first: those whose
// key differs between clients before those that are for all together, and among
// equals the smaller rate.
func bySelectivity(a, b *check) int {
	if x, y := a.handler.key.constant(), b.handler.key.constant(); x != y {
		if x {
			return 1
		}
		return -1
	}
	return cmp.Compare(a.tier.plan.PerSecond(), b.tier.plan.PerSecond())
}

// takeAll takes units one check after the other, and gives them back when one
// is refused.
func takeAll(checks []*check) (refused *check) {
	for _, c := range checks {
		if c.take(); !c.decision.Admitted() {
			refundAll(checks)
			return c
		}
	}
	return nil
}

// takeAllInRedis takes the units of zones in Redis by one script, if possible.
func takeAllInRedis(checks []*check) (refused *check) {
	if len(checks) < 2 {
		return takeAll(checks)
	}
	calls := make([]redisstore.Call, len(checks))
	for i, c := range checks {
		calls[i] = c.redisCall()
	}
	began := time.Now()
	if !redisstore.DecideAll(calls) {
		return takeAll(checks)
	}
	took := time.Since(began)
	refused = firstRefused(checks)
	for _, c := range checks {
		c.decided, c.reserved = began.Add(took), refused == nil // the script takes all or none
		c.handler.metrics.latency.Observe(took.Seconds())
	}
	return refused
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

// take asks the zone's store for the units.
func (c *check) take() {
	z := c.handler.zone
	c.decided = time.Now()
	if z.redis == nil {
		z.memory.Decide(c.key, c.tier.plan, c.cost, &c.decision)
	} else {
		call := c.redisCall()
		call.Decide()
		took := time.Since(c.decided)
		c.decided = c.decided.Add(took)
		c.handler.metrics.latency.Observe(took.Seconds())
	}
	c.reserved = c.decision.Admitted()
}

// peek reads whether the units are available, as far as this gateway knows
// without asking Redis, and takes none.
func (c *check) peek() {
	if z := c.handler.zone; z.redis == nil {
		z.memory.Peek(c.key, c.tier.plan, c.cost, &c.decision)
		return
	}
	call := c.redisCall()
	call.PeekLocal()
}

// refund gives back what take has taken, once.
func (c *check) refund() {
	if !c.reserved {
		return
	}
	c.reserved = false
	if z := c.handler.zone; z.redis == nil {
		z.memory.Refund(c.key, c.tier.plan, c.cost, c.decision.At)
		return
	}
	call := c.redisCall()
	call.Refund(c.decision.At, c.decision.Source)
}

// redisCall is the check as the Redis store takes it.
func (c *check) redisCall() redisstore.Call {
	return redisstore.Call{
		Zone:     c.handler.zone.redis,
		Key:      c.key,
		Plan:     c.tier.plan,
		Cost:     c.cost,
		OnError:  c.handler.OnStoreError,
		Budget:   time.Duration(c.handler.Budget),
		Request:  c.request.redisWait,
		Leased:   c.handler.Mode == modeLeased,
		Decision: &c.decision,
	}
}

// record sets the outcome of a check and counts it.
func (c *check) record(refused *check) {
	h := c.handler
	switch {
	case c.outcome == outcomeExempt && !c.metered():
	case c.decision.Source == gcra.Unavailable && !c.decision.Admitted():
		c.outcome = outcomeUnavailable
	case !c.decision.Admitted() && h.Shadow:
		c.outcome = outcomeShadowLimited
	case !c.decision.Admitted():
		c.outcome = outcomeLimited
	case refused != nil && !h.Shadow:
		return // another zone refused: this one has nothing to count
	case c.decision.Delay > 0:
		c.outcome = outcomeDelayed
	}
	h.metrics.count(c.outcome)
	if c.metered() {
		h.metrics.countSource(c.decision.Source)
		if !h.CountAfter {
			h.zone.topKeys.add(c.key, c.cost)
		}
	}
}
