package redis

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// retryDenied is what a client is told to wait while the policy is to deny.
const retryDenied = time.Second

// fallback decides without Redis, as the policy of the zone says.
func (c *Call) fallback() {
	z, d := c.Zone, c.Decision
	switch c.OnError {
	case Allow:
		*d = gcra.Decision{Source: gcra.Unchecked}
	case Deny:
		*d = gcra.Decision{Source: gcra.Unavailable, Wait: int64(retryDenied)}
	default:
		// The share has the debts that were last seen in Redis: a time ahead of now
		// means the same part of the burst in the share as in the whole.
		z.local.Decide(c.Key, c.Plan.Share(z.engine.instances()), c.Cost, d)
		d.Source = gcra.Local
		if d.Admitted() && c.Cost > 0 {
			z.spent.add(c.Key, c.Plan, c.Cost)
		}
	}
}

// fallbackAll decides several calls without Redis, all or none.
func fallbackAll(calls []Call) {
	for i := range calls {
		c := &calls[i]
		c.fallback()
		if c.Decision.Admitted() {
			continue
		}
		for j := range calls[:i] {
			calls[j].Refund(calls[j].Decision.At, calls[j].Decision.Source)
		}
		for j := i + 1; j < len(calls); j++ {
			calls[j].Zone.local.Peek(calls[j].Key, calls[j].Plan, 0, calls[j].Decision)
			calls[j].Decision.Wait, calls[j].Decision.Source = 0, gcra.Remembered
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

// owe notes that a request was decided without Redis although it is not given
// up. What it spent is debited with the next success.
func (e *Engine) owe() { e.owing.Store(true) }

// settleEvery is the least time between two debits of single failures.
const settleEvery = 50 * time.Millisecond

// settleSoon debits what single failures left behind. Nobody waits for it.
func (e *Engine) settleSoon() {
	now, last := e.clock(), e.settled.Load()
	if now-last < int64(settleEvery) || !e.settled.CompareAndSwap(last, now) {
		return
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.done.Add(1)
	e.mu.Unlock()
	e.owing.Store(false)
	go func() {
		defer e.done.Done()
		// The local counters were brought back to those of Redis by the success, so
		// they do not tell what is owed. It is not old.
		if !e.settle(e.reachable, false) {
			e.owe()
		}
	}()
}

// settle debits in Redis what was spent in parts that match; of what was spent
// longer ago, only what has not come back since. It returns false if that
// failed; what remains is debited with the next try.
func (e *Engine) settle(match func(part int) bool, longAgo bool) bool {
	ok := true
	e.zones.Range(func(k, _ any) bool {
		z := k.(*Zone)
		spent := z.spent.drain(z.name, match)
		var exact []*exactDebit
		var calls []*call
		var keys []string
		send := func() {
			if len(calls) > 0 && !e.sendDebits(calls) {
				ok = false
				for _, key := range keys {
					z.spent.add(key, spent[key].plan, spent[key].units)
				}
			}
			calls, keys = calls[:0], keys[:0]
		}
		order := slices.SortedFunc(maps.Keys(spent), func(a, b string) int {
			return partition(z.name, a) - partition(z.name, b)
		})
		for _, key := range order {
			u := spent[key]
			if !u.plan.Simple() {
				exact = append(exact, &exactDebit{key: key, spent: u})
				continue
			}
			units := u.units
			if longAgo {
				units = z.outstanding(key, u)
			}
			if units <= 0 {
				continue
			}
			if !ok {
				z.spent.add(key, u.plan, u.units)
				continue
			}
			p := partition(z.name, key)
			if len(calls) == maxSubjects || len(calls) > 0 && e.cluster && calls[0].subjects[0].part != p {
				send()
			}
			k := &call{kind: debit, done: make(chan struct{}, 1)}
			k.one[0] = subject{key: e.redisKey(p, z.name, key), part: p, plan: u.plan, cost: units}
			k.subjects = k.one[:]
			calls, keys = append(calls, k), append(keys, key)
		}
		send()
		for batch := range slices.Chunk(exact, maxSubjects) {
			if ok {
				ok = z.debitExact(batch, longAgo)
				continue
			}
			for _, d := range batch {
				z.spent.add(d.key, d.spent.plan, d.spent.units)
			}
		}
		return ok
	})
	return ok
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

// sendDebits carries out debits of keys in one partition, or in any without a
// Cluster.
func (e *Engine) sendDebits(calls []*call) bool {
	ctx, cancel := context.WithTimeout(e.life, 4*DefaultBudget)
	defer cancel()
	s := &sender{}
	return e.sendOne(ctx, s, calls) == nil
}
