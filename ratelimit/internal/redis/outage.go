package redis

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
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
	e.debts.Store(false)
	go func() {
		defer e.done.Done()
		// The success has set the local counters to those of Redis, so they do not
		// tell what is owed. It is not old.
		if e.settle(e.life, e.available, false) != nil {
			e.debts.Store(true)
		}
	}()
}

// restore settles the debts of a part of Redis before it is used again, so that
// nobody can spend those units twice. That Redis decides at all is tried first.
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
		spent := z.spent.drain(z.name, match)
		var exact []*exactDebit
		var calls []*call
		var keys []string
		send := func() {
			if len(calls) > 0 {
				if err = e.sendDebits(ctx, calls); err != nil {
					for _, key := range keys {
						z.spent.add(key, spent[key].plan, spent[key].units)
					}
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
			if err != nil {
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
			if err == nil {
				err = z.debitExact(ctx, batch, longAgo)
				continue
			}
			for _, d := range batch {
				z.spent.add(d.key, d.spent.plan, d.spent.units)
			}
		}
		return err == nil
	})
	return err
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
func (e *Engine) sendDebits(ctx context.Context, calls []*call) error {
	ctx, cancel := context.WithTimeout(ctx, debitTimeout)
	defer cancel()
	return e.sendOne(ctx, &sender{}, calls)
}
