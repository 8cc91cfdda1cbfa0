package redis

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// retryDenied is the wait of a refusal while the fallback is to deny.
const retryDenied = time.Second

// fixedFallback decides without Redis where the fallback is to allow or to deny.
func (c *Call) fixedFallback() bool {
	switch c.OnError {
	case Allow:
		*c.Decision = gcra.Decision{Source: gcra.Unchecked}
	case Deny:
		*c.Decision = gcra.Decision{Source: gcra.Unavailable, Wait: int64(retryDenied)}
	default:
		return false
	}
	return true
}

// fallback decides without Redis.
func (c *Call) fallback() {
	if c.fixedFallback() {
		return
	}
	// The share has the debts that were last seen in Redis: a time ahead of now
	// means the same part of the burst in the share as in the whole.
	z, d := c.Zone, c.Decision
	z.local.Decide(c.Key, c.Plan.Share(z.engine.instances()), c.Cost, d)
	d.Source = gcra.Local
	if d.Admitted() && c.Cost > 0 {
		z.spent.add(c.Key, c.Plan, c.Cost)
	}
}

// fallbackAll decides several calls without Redis, all or none.
func fallbackAll(calls []Call) {
	for i := range calls {
		c := &calls[i]
		if c.fallback(); c.Decision.Admitted() {
			continue
		}
		for j := range calls[:i] {
			calls[j].Refund(calls[j].Decision.At, calls[j].Decision.Source)
		}
		for j := i + 1; j < len(calls); j++ {
			calls[j].show()
		}
		return
	}
}

// maxSpent bounds the keys whose spending is remembered for the recovery.
const maxSpent = 100_000

// spending is what this gateway admitted while Redis did not answer.
type spending struct {
	mu   sync.Mutex
	keys map[string]spentUnits
}

type spentUnits struct {
	plan  *gcra.Plan
	units int64
}

func (s *spending) add(key string, plan *gcra.Plan, units int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, known := s.keys[key]
	if !known && len(s.keys) >= maxSpent {
		return
	}
	if s.keys == nil {
		s.keys = make(map[string]spentUnits)
	}
	have.plan = plan
	if have.units += units; have.units <= 0 {
		delete(s.keys, key)
		return
	}
	s.keys[key] = have
}

// drain takes the spending of a partition out.
func (s *spending) drain(zone string, match func(part int) bool) map[string]spentUnits {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]spentUnits)
	for key, units := range s.keys {
		if match(partition(zone, key)) {
			out[key] = units
			delete(s.keys, key)
		}
	}
	return out
}

// settleEvery is the least time between two debits of single failures.
const settleEvery = 50 * time.Millisecond

// settleSoon debits what single failures left behind. Nobody waits for it.
func (e *Engine) settleSoon() {
	now, last := e.clock(), e.settled.Load()
	if now-last < int64(settleEvery) || !e.settled.CompareAndSwap(last, now) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.debts.Store(false)
	e.done.Go(func() {
		// The success has set the local counters to those of Redis, so they do not
		// show the debt. It is not old.
		if e.settle(e.life, e.available, false) != nil {
			e.debts.Store(true)
		}
	})
}

// restore settles the debts of a part of Redis before it is used again, so that
// those units cannot be spent twice. Whether Redis can decide is tried first.
func (e *Engine) restore(ctx context.Context, p *availability.Partition) error {
	match := func(part int) bool { return e.partition(part) == p }
	for part := range Partitions {
		if match(part) {
			ctx, cancel := context.WithTimeout(ctx, debitTimeout)
			defer cancel()
			cmd := redis.NewCmd(ctx, "eval", decideSource, 1, e.redisKey(part, "", "probe"), 1, 1, 1000, 1000, -1, 2, 1, 1)
			if _, err := e.process(ctx, cmd); err != nil {
				return refused(err)
			}
			break
		}
	}
	return e.settle(ctx, match, true)
}

// changed counts the parts of Redis that cannot decide.
func (e *Engine) changed(p *availability.Partition, s availability.State) {
	e.mu.Lock()
	was := len(e.down) > 0
	if s == availability.Available {
		delete(e.down, p)
	} else if !e.closed {
		e.down[p] = struct{}{}
	}
	is := len(e.down) > 0
	e.mu.Unlock()
	if was != is {
		e.onOutage(is)
	}
}

// debitTimeout bounds one round trip of debits. No request waits for it.
const debitTimeout = 100 * time.Millisecond

// settle debits in Redis what was spent in partitions that match; of what was
// spent longer ago, only what has not come back since. What could not be debited
// is debited with the next try.
func (e *Engine) settle(ctx context.Context, match func(part int) bool, longAgo bool) (err error) {
	e.zones.Range(func(k, _ any) bool {
		z := k.(*Zone)
		var trips []*roundTrip
		spent := z.spent.drain(z.name, match)
		for key, u := range spent {
			if t := z.debit(key, u, longAgo); t != nil {
				trips = append(trips, t)
			}
		}
		for batch := range slices.Chunk(trips, maxKeys) {
			if err == nil {
				err = e.sendDebits(ctx, batch)
			}
			for _, t := range batch {
				if key := t.calls[0].Key; t.state.Load() == pending || t.err != nil {
					z.spent.add(key, spent[key].plan, spent[key].units)
				}
			}
		}
		return err == nil
	})
	return err
}

// debit returns the debit of what a key spent, nil if there is none. Of what was
// spent longer ago that is what has not come back since.
func (z *Zone) debit(key string, u spentUnits, longAgo bool) *roundTrip {
	c, costs := Call{Zone: z, Key: key, Plan: u.plan, Cost: u.units}, []int64(nil)
	switch {
	case !u.plan.Simple():
		if costs = z.outstandingExact(key, u, longAgo); costs == nil {
			return nil
		}
		c.Cost = 0
	case longAgo:
		if c.Cost = z.outstanding(key, u); c.Cost <= 0 {
			return nil
		}
	}
	t := newRoundTrip(debit, c)
	t.costs = costs
	return t
}

// outstanding is the part of the spent units that has not come back since.
func (z *Zone) outstanding(key string, u spentUnits) int64 {
	policies := u.plan.Share(z.engine.instances()).Policies()
	debts := make([]int64, len(policies))
	z.local.Debts(key, debts)
	most := int64(0)
	for i, p := range policies {
		most = max(most, (debts[i]+p.T-1)/p.T)
	}
	return min(u.units, most)
}

// outstandingExact returns the units of each meter that are to be debited, nil
// for none. Of what was spent longer ago that is what the local windows still
// hold and the quotas of this period count.
func (z *Zone) outstandingExact(key string, u spentUnits, longAgo bool) []int64 {
	costs := make([]int64, u.plan.Len())
	if !longAgo {
		for i := range costs {
			costs[i] = u.units
		}
		return costs
	}
	share := u.plan.Share(z.engine.instances())
	var d gcra.Decision
	z.local.Peek(key, share, 0, &d)
	some := false
	for i := range costs {
		costs[i] = min(u.units, share.Capacity(i)-d.Meters[i].Remaining)
		some = some || costs[i] > 0
	}
	if !some {
		return nil
	}
	return costs
}

// sendDebits carries out debits. Units of windows and quotas are entered as of now: a
// window then holds them a little longer than it has to, never shorter.
func (e *Engine) sendDebits(ctx context.Context, debits []*roundTrip) error {
	ctx, cancel := context.WithTimeout(ctx, debitTimeout)
	defer cancel()
	return e.carryOut(ctx, &sender{trips: debits}, func(int, error) {})
}
