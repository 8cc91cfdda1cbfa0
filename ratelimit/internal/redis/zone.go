package redis

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
)

// What a zone does while Redis does not answer.
const (
	// Local limits each gateway to its share.
	Local = "local"

	// Allow admits everything.
	Allow = "allow"

	// Deny refuses everything.
	Deny = "deny"
)

// Zone is a set of keys in Redis. It is safe for concurrent use.
type Zone struct {
	engine *Engine
	name   string

	// local holds what was last seen of each key, and decides during an outage.
	local   *memory.Store
	denials denials
	spent   spending
	leases  leases
}

// NewZone returns the zone of that name.
func (e *Engine) NewZone(name string, maxKeys int) *Zone {
	z := &Zone{
		engine: e,
		name:   name,
		local:  memory.New(memory.Options{MaxKeys: maxKeys, Clock: e.clock, Wall: e.wall}),
	}
	z.leases.init()
	e.zones.Store(z, struct{}{})
	return z
}

// Close gives leased units back and detaches the zone from its engine.
func (z *Zone) Close(ctx context.Context) {
	z.returnLeases(ctx)
	z.engine.zones.Delete(z)
}

// SetMaxKeys changes how many keys are remembered for an outage.
func (z *Zone) SetMaxKeys(n int) { z.local.SetMaxKeys(n) }

// Evictions returns how many live keys had to be forgotten.
func (z *Zone) Evictions() uint64 { return z.local.Evictions() }

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
}

func (c *Call) budget() time.Duration {
	if c.Budget <= 0 {
		return c.Zone.engine.availability.Budget()
	}
	return c.Budget
}

// left returns for how long the request may still wait, and whether that is
// much less than usual.
func (c *Call) left() (left time.Duration, short bool) {
	budget := c.budget()
	left = c.Request.Left(budget)
	return left, left < budget/2
}

// subject is the call as the script sees it.
func (c *Call) subject() subject {
	part := partition(c.Zone.name, c.Key)
	return subject{key: c.Zone.engine.redisKey(part, c.Zone.name, c.Key), part: part, plan: c.Plan, cost: c.Cost}
}

// Decide answers a call.
func (c *Call) Decide() {
	z := c.Zone
	if c.impossible() {
		c.never()
		return
	}
	// Reserved units come before a refusal that is remembered: they were granted.
	if c.Leased && c.Plan.Simple() && c.Cost > 0 && z.leased(c) {
		return
	}
	if c.remembered() {
		return
	}
	s := c.subject()
	if !z.engine.available(s.part) {
		c.fallback()
		return
	}
	left, short := c.left()
	if left == 0 {
		c.fallback()
		z.engine.debts.Store(true)
		return
	}
	if !c.Plan.Simple() {
		c.decideExact(s, left, short)
		return
	}
	generation := z.denials.generation.Load()
	k := newCall(take, s, left)
	k.short = short
	if err := z.engine.do(k, c.Request); err != nil {
		if !errors.Is(err, errTimeout) {
			k.release()
		}
		c.fallback()
		z.engine.debts.Store(true)
		return
	}
	c.accept(k.reply.wait, k.reply.debts, generation)
	k.release()
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

// remembered answers from a refusal that is known to hold still.
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

// accept fills the decision from an answer of Redis and remembers what it says.
func (c *Call) accept(wait int64, debts []int64, generation uint64) {
	z, d := c.Zone, c.Decision
	var tats [gcra.MaxMeters]int64
	copy(tats[:], debts)
	d.Source, d.Len, d.Wait = gcra.Shared, c.Plan.Len(), wait
	d.Fill(c.Plan, tats[:len(debts)], 0, c.Cost)
	z.local.Seed(c.Key, debts)
	if wait > 0 {
		z.denials.add(c.Key, c.Plan, c.Cost, z.engine.clock(), d, generation)
	}
}

// decideExact answers a call over windows or quotas.
func (c *Call) decideExact(s subject, left time.Duration, short bool) {
	z := c.Zone
	generation := z.denials.generation.Load()
	k := newCall(take, s, left)
	k.short = short
	x := &exactCall{op: "take", key: s.key, plan: c.Plan, cost: c.Cost, wall: z.engine.wall()}
	k.exact = x
	if err := z.engine.do(k, c.Request); err != nil {
		if !errors.Is(err, errTimeout) {
			k.release()
		}
		c.fallback()
		z.engine.debts.Store(true)
		return
	}
	k.release()
	*c.Decision = x.decision
	c.seedExact()
	if x.decision.Wait > 0 {
		z.denials.add(c.Key, c.Plan, c.Cost, z.engine.clock(), c.Decision, generation)
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
// returns false, having done nothing, where that is not possible: the zones are
// in different Redis servers, or on a Cluster, or need more than a number of
// state, or spend leases.
func DecideAll(calls []Call) bool {
	engine := calls[0].Zone.engine
	if engine.cluster || !engine.available(0) {
		return false
	}
	for i := range calls {
		c := &calls[i]
		if c.Zone.engine != engine || !c.Plan.Simple() || c.Leased {
			return false
		}
	}
	for i := range calls {
		impossible := calls[i].impossible()
		if impossible {
			calls[i].never()
		}
		if impossible || calls[i].remembered() {
			// The others are not asked; they show what they were last seen to have.
			for j := range calls {
				if j != i {
					calls[j].Zone.local.Peek(calls[j].Key, calls[j].Plan, 0, calls[j].Decision)
					calls[j].Decision.Wait, calls[j].Decision.Source = 0, gcra.Remembered
				}
			}
			return true
		}
	}
	subjects := make([]subject, len(calls))
	left, short := time.Duration(0), true
	generations := make([]uint64, len(calls))
	for i := range calls {
		subjects[i] = calls[i].subject()
		l, s := calls[i].left()
		left, short = max(left, l), short && s
		generations[i] = calls[i].Zone.denials.generation.Load()
	}
	if left == 0 {
		fallbackAll(calls)
		engine.debts.Store(true)
		return true
	}
	k := newCall(take, subjects[0], left)
	k.short = short
	k.subjects = subjects
	if err := engine.do(k, calls[0].Request); err != nil {
		if !errors.Is(err, errTimeout) {
			k.release()
		}
		fallbackAll(calls)
		engine.debts.Store(true)
		return true
	}
	debts := k.reply.debts
	for i := range calls {
		c := &calls[i]
		n := len(c.Plan.Policies())
		wait := int64(0)
		if k.reply.wait > 0 {
			for j, p := range c.Plan.Policies() {
				wait = max(wait, p.Wait(debts[j], 0, c.Cost))
			}
		}
		c.accept(wait, debts[:n], generations[i])
		debts = debts[n:]
	}
	k.release()
	return true
}

// Refund gives units back that were admitted at d.At by the source in d. It
// does not wait for Redis.
func (c *Call) Refund(at int64, source gcra.Source) {
	z := c.Zone
	z.denials.forget(c.Key)
	switch source {
	case gcra.Memory, gcra.Remembered, gcra.Unchecked, gcra.Unavailable:
		return
	case gcra.Local:
		z.local.Refund(c.Key, c.Plan.Share(z.engine.instances()), c.Cost, at)
		z.spent.add(c.Key, c.Plan, -c.Cost)
		return
	case gcra.Lease:
		z.refundLease(c)
		return
	case gcra.Shared:
	}
	s := c.subject()
	s.cost = -c.Cost
	k := &call{done: make(chan struct{}, 1), budget: c.budget()}
	k.one[0] = s
	k.subjects = k.one[:]
	if !c.Plan.Simple() {
		k.exact = &exactCall{op: "refund", key: s.key, plan: c.Plan, cost: c.Cost, at: at, wall: z.engine.wall()}
	}
	if z.engine.available(s.part) {
		z.engine.submit(k)
	}
}

// Peek asks Redis what is left of a key, and takes nothing.
func (c *Call) Peek() error {
	z := c.Zone
	s := c.subject()
	s.cost = 0
	k := newCall(take, s, c.budget())
	if !c.Plan.Simple() {
		k.exact = &exactCall{op: "take", key: s.key, plan: c.Plan, wall: z.engine.wall()}
	}
	x := k.exact
	if err := z.engine.do(k, nil); err != nil {
		return err
	}
	if x != nil {
		*c.Decision = x.decision
	} else {
		var tats [gcra.MaxMeters]int64
		copy(tats[:], k.reply.debts)
		c.Decision.Source, c.Decision.Len, c.Decision.Wait = gcra.Shared, c.Plan.Len(), k.reply.wait
		c.Decision.Fill(c.Plan, tats[:len(k.reply.debts)], 0, 0)
	}
	k.release()
	return nil
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
	switch c.OnError {
	case Allow:
		*d = gcra.Decision{Source: gcra.Unchecked}
	case Deny:
		*d = gcra.Decision{Source: gcra.Unavailable, Wait: int64(retryDenied)}
	default:
		z.local.Peek(c.Key, c.Plan.Share(z.engine.instances()), c.Cost, d)
		d.Source = gcra.Local
	}
}

// Reset forgets a key here and in Redis, under every plan it may have been
// counted by. It reports whether there was anything to forget.
func (z *Zone) Reset(ctx context.Context, key string, plans []*gcra.Plan) (bool, error) {
	part := partition(z.name, key)
	name := z.engine.redisKey(part, z.name, key)
	names := []string{name}
	for _, plan := range plans {
		if !plan.Simple() {
			for _, k := range meterKeys(name, plan) {
				names = append(names, k.(string))
			}
		}
	}
	slices.Sort(names)
	n, err := z.engine.client.Del(ctx, slices.Compact(names)...).Result()
	z.denials.forget(key)
	z.dropLease(key)
	local := z.local.Reset(key)
	return n > 0 || local, err
}
