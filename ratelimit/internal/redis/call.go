package redis

import (
	"time"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// The fallbacks while Redis is unavailable.
const (
	// Local limits each gateway to its share.
	Local = "local"

	// Allow admits everything.
	Allow = "allow"

	// Deny refuses everything.
	Deny = "deny"
)

// Call is a request for units of one key.
type Call struct {
	// Zone is where the key is.
	Zone *Zone

	// Key is whom to count.
	Key string

	// Plan are the limits.
	Plan *gcra.Plan

	// Cost is the number of units, at least 0.
	Cost int64

	// OnError is Local, Allow or Deny. Default: Local.
	OnError string

	// Budget is the longest the decision waits for Redis. Default: that of the
	// engine of availability.
	Budget time.Duration

	// Request is how long the request has waited for Redis, which counts toward
	// Budget. Default: it has not.
	Request *availability.Budget

	// Leased permits to spend units that were reserved before.
	Leased bool

	// Decision receives the answer.
	Decision *gcra.Decision

	name string // of the key in Redis
	part int    // the partition it is in
}

// locate finds the place of the key in Redis.
func (c *Call) locate() {
	c.part = partition(c.Zone.name, c.Key)
	c.name = c.Zone.engine.redisKey(c.part, c.Zone.name, c.Key)
}

// limit returns for how long the call may wait for Redis, and whether that is much
// less than usual.
func (c *Call) limit() (limit time.Duration, short bool) {
	budget := c.Budget
	if budget <= 0 {
		budget = c.Zone.engine.availability.Budget()
	}
	limit = c.Request.Left(budget)
	return limit, limit < budget/2
}

// Decide answers the call.
func (c *Call) Decide() {
	z := c.Zone
	if c.impossible() {
		c.never()
		return
	}
	// Leased units come before a refusal that is remembered: they were granted.
	if c.Leased && c.Plan.Simple() && c.Cost > 0 && z.leased(c) {
		return
	}
	if c.remembered() {
		return
	}
	c.locate()
	if !z.engine.available(c.part) {
		c.fallback()
		return
	}
	t := newRoundTrip(take, *c)
	defer t.release()
	if z.engine.do(t) != nil {
		c.fallback()
		z.engine.debts.Store(true)
		return
	}
	c.accept(t, t.reply.wait, t.reply.debts)
}

// impossible reports whether more units are asked for than there ever are.
func (c *Call) impossible() bool {
	for i := range c.Plan.Len() {
		if c.Cost > c.Plan.Capacity(i) {
			return true
		}
	}
	return false
}

// remembered answers from a refusal that still holds.
func (c *Call) remembered() bool {
	return c.Cost > 0 && c.Zone.denials.find(c.Key, c.Plan, c.Cost, c.Zone.engine.clock(), c.Decision)
}

// never refuses for good, with the meters as last seen.
func (c *Call) never() {
	c.Zone.local.Peek(c.Key, c.Plan, c.Cost, c.Decision)
	c.Decision.Wait = gcra.Never
	for i := range c.Decision.Len {
		c.Decision.Meters[i].Over = c.Cost > c.Plan.Capacity(i)
	}
	c.Decision.Source = gcra.Shared
}

// show fills the decision of a call that is not decided, because another one of its
// group was refused, with the meters as last seen.
func (c *Call) show() {
	c.Zone.local.Peek(c.Key, c.Plan, 0, c.Decision)
	c.Decision.Wait, c.Decision.Source = 0, gcra.Remembered
}

// fill sets the decision to an answer of Redis. The debts are those of the call's
// limits, of a plan without windows and quotas.
func (c *Call) fill(t *roundTrip, wait int64, debts []int64) {
	d := c.Decision
	if !c.Plan.Simple() {
		*d = *t.exact
		return
	}
	var tats [gcra.MaxMeters]int64
	copy(tats[:], debts)
	d.Source, d.Len, d.Wait = gcra.Shared, c.Plan.Len(), wait
	d.Fill(c.Plan, tats[:len(debts)], 0, c.Cost)
}

// accept is fill that remembers what the answer says, for an outage and, of a
// refusal, for the next calls.
func (c *Call) accept(t *roundTrip, wait int64, debts []int64) {
	c.fill(t, wait, debts)
	if c.Plan.Simple() {
		c.Zone.local.Seed(c.Key, debts)
	} else {
		c.seedExact()
	}
	if c.Decision.Wait > 0 {
		c.Zone.denials.add(c.Key, c.Plan, c.Cost, c.Zone.engine.clock(), c.Decision)
	}
}

// seedExact remembers for an outage what an answer of Redis said of the limits
// and quotas of a plan that has quotas.
func (c *Call) seedExact() {
	quotas := c.Plan.Quotas()
	if len(quotas) == 0 {
		return
	}
	n := c.Zone.engine.instances()
	var debts, remaining [gcra.MaxMeters]int64
	limits := 0
	if c.Plan.Algorithm() == gcra.Rate {
		limits = len(c.Plan.Limits())
		for i, l := range c.Plan.Limits() {
			if m := c.Decision.Meters[i]; m.Reset > 0 {
				p := l.Policy()
				debts[i] = m.Reset + p.Tau - (m.Remaining+1)*p.T
			}
		}
	}
	for i := range quotas {
		remaining[i] = c.Decision.Meters[len(c.Plan.Limits())+i].Remaining / int64(n)
	}
	c.Zone.local.SeedExact(c.Key, c.Plan.Share(n), debts[:limits], remaining[:len(quotas)])
}

// DecideAll answers several calls together, all or none, by one script. It
// returns false, having done nothing, where that is not possible: the zones are in
// different Redis servers or in a Cluster, have windows or quotas, or spend leases.
func DecideAll(calls []Call) bool {
	engine := calls[0].Zone.engine
	if engine.cluster || !engine.available(0) {
		return false
	}
	for i := range calls {
		if c := &calls[i]; c.Zone.engine != engine || !c.Plan.Simple() || c.Leased {
			return false
		}
	}
	for i := range calls {
		impossible := calls[i].impossible()
		if impossible {
			calls[i].never()
		}
		if impossible || calls[i].remembered() {
			for j := range calls {
				if j != i {
					calls[j].show()
				}
			}
			return true
		}
	}
	t := newRoundTrip(take, calls...)
	defer t.release()
	if engine.do(t) != nil {
		fallbackAll(calls)
		engine.debts.Store(true)
		return true
	}
	debts := t.reply.debts
	for i := range calls {
		c := &calls[i]
		n := len(c.Plan.Policies())
		wait := int64(0)
		if t.reply.wait > 0 {
			for j, p := range c.Plan.Policies() {
				wait = max(wait, p.Wait(debts[j], 0, c.Cost))
			}
		}
		c.accept(t, wait, debts[:n])
		debts = debts[n:]
	}
	return true
}

// Refund gives units back that the source admitted at a time of its clock
// (gcra.Decision). It does not wait for Redis.
func (c *Call) Refund(at int64, source gcra.Source) {
	z := c.Zone
	z.denials.forget(c.Key)
	switch source {
	case gcra.Memory, gcra.Remembered, gcra.Unchecked, gcra.Unavailable:
	case gcra.Local:
		z.local.Refund(c.Key, c.Plan.Share(z.engine.instances()), c.Cost, at)
		z.spent.add(c.Key, c.Plan, -c.Cost)
	case gcra.Lease:
		z.refundLease(c)
	case gcra.Shared:
		back := *c
		back.Cost, back.Request = -c.Cost, nil
		if t := newRoundTrip(take, back); z.engine.available(t.calls[0].part) {
			t.at = at
			z.engine.submit(t)
		}
	}
}

// Peek asks Redis what is left of a key, and takes nothing. Under a plan without windows
// and quotas it also says whether that suffices.
func (c *Call) Peek() error {
	peek := *c
	peek.Cost = 0
	t := newRoundTrip(take, peek)
	defer t.release()
	if err := c.Zone.engine.do(t); err != nil {
		return err
	}
	wait := int64(0)
	if c.Plan.Simple() {
		for i, p := range c.Plan.Policies() {
			wait = max(wait, p.Wait(t.reply.debts[i], 0, c.Cost))
		}
	}
	c.fill(t, wait, t.reply.debts)
	return nil
}

// Foresee answers as Decide would without leases, and takes nothing. It waits for Redis
// for at most limit. Under a plan with windows or quotas the wait of a refusal is that for
// more units, which need not suffice for a cost above one.
func (c *Call) Foresee(limit time.Duration) {
	switch {
	case c.impossible():
		c.never()
	case c.remembered():
	case c.peekWithin(limit):
		c.compare()
	case !c.fixedFallback():
		c.Zone.local.Peek(c.Key, c.Plan.Share(c.Zone.engine.instances()), c.Cost, c.Decision)
		c.Decision.Source = gcra.Local
	}
}

// peekWithin asks Redis if requests would.
func (c *Call) peekWithin(limit time.Duration) bool {
	if limit <= 0 || !c.Zone.engine.available(partition(c.Zone.name, c.Key)) {
		return false
	}
	peek := *c
	peek.Budget, peek.Request = limit, nil
	return peek.Peek() == nil
}

// compare completes what Redis says of a plan with windows or quotas: what is left, but
// not whether that suffices.
func (c *Call) compare() {
	if c.Plan.Simple() {
		return
	}
	d := c.Decision
	for i := range d.Len {
		if m := &d.Meters[i]; m.Remaining < c.Cost {
			m.Over, d.Wait = true, max(d.Wait, m.Reset, 1)
		}
	}
}

// PeekLocal answers from what this gateway has seen of a key, without a round
// trip, and takes nothing. Every decision about the key brings that up to date.
func (c *Call) PeekLocal() {
	z, d := c.Zone, c.Decision
	if c.impossible() {
		c.never()
		return
	}
	if c.remembered() {
		return
	}
	if z.engine.available(partition(z.name, c.Key)) {
		z.local.Peek(c.Key, c.Plan, c.Cost, d)
		d.Source = gcra.Remembered
		return
	}
	if !c.fixedFallback() {
		z.local.Peek(c.Key, c.Plan.Share(z.engine.instances()), c.Cost, d)
		d.Source = gcra.Local
	}
}
