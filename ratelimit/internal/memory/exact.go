package memory

import (
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/window"
)

// exact is the state of a key whose plan has sliding windows or quotas: exact
// logs, quotas, and the TATs of limits beside the quotas.
type exact struct {
	tats   [gcra.MaxMeters]int64
	logs   []window.Log
	quotas []quota
	// until is when the state becomes idle, on the store's clock.
	until int64
}

// quota is how many units were used in the period that began at start.
type quota struct {
	start, used int64
}

// evictTries is how many keys are candidates for eviction.
const evictTries = 8

// entry returns the state of a key, and creates it if there is none.
func (s *Store) entry(sh *shard, h xxh3.Uint128, now int64) *exact {
	if e := sh.exact[h]; e != nil {
		return e
	}
	if sh.exact == nil {
		sh.exact = make(map[xxh3.Uint128]*exact)
	}
	s.makeRoom(sh, now)
	e := &exact{}
	sh.exact[h] = e
	return e
}

// makeRoom removes idle keys among a few and, if the shard is full of active ones,
// evicts the one of them that is idle first. Iteration over a map begins at
// random, so that every key is a candidate in time.
func (s *Store) makeRoom(sh *shard, now int64) {
	full := len(sh.exact) >= s.limit(1)
	var victim xxh3.Uint128
	var until int64
	tries, live := 0, 0
	for h, e := range sh.exact {
		if tries++; tries > evictTries {
			break
		}
		if e.until <= now {
			delete(sh.exact, h)
			full = false
			continue
		}
		if live++; live == 1 || e.until < until {
			victim, until = h, e.until
		}
		if !full && tries >= 2 {
			break
		}
	}
	if full && live > 0 {
		delete(sh.exact, victim)
		s.evictions.Add(1)
	}
}

// prepare makes the state fit the plan and returns the time of the decision. The
// time of a log never goes back, even if two callers get the lock in another order
// than their clock readings.
func (e *exact) prepare(plan *gcra.Plan, now int64, wall time.Time) int64 {
	if plan.Algorithm() == gcra.Window {
		for len(e.logs) < len(plan.Limits()) {
			e.logs = append(e.logs, window.Log{})
		}
		for i := range e.logs {
			if last, ok := e.logs[i].Last(); ok {
				now = max(now, last)
			}
		}
	}
	for len(e.quotas) < len(plan.Quotas()) {
		e.quotas = append(e.quotas, quota{})
	}
	for i, q := range plan.Quotas() {
		if start := q.Unit.Start(wall).UnixNano(); e.quotas[i].start != start {
			e.quotas[i] = quota{start: start}
		}
	}
	return now
}

// wait returns how long the units are unavailable.
func (e *exact) wait(plan *gcra.Plan, now int64, wall time.Time, cost int64) int64 {
	var wait int64
	limits := plan.Limits()
	if plan.Algorithm() == gcra.Window {
		for i, l := range limits {
			w := e.logs[i].Wait(now, int64(l.Period), l.Count, cost)
			if w < 0 {
				return gcra.Never
			}
			wait = max(wait, w)
		}
	} else {
		for i, p := range plan.Policies() {
			e.tats[i] = p.Clamp(e.tats[i], now)
			wait = max(wait, p.Wait(e.tats[i], now, cost))
		}
	}
	for i, q := range plan.Quotas() {
		switch {
		case cost > q.Count:
			return gcra.Never
		case e.quotas[i].used+cost > q.Count:
			wait = max(wait, int64(q.Unit.Next(wall).Sub(wall)))
		}
	}
	return wait
}

// take records the units.
func (e *exact) take(plan *gcra.Plan, now int64, wall time.Time, cost int64) {
	for i, l := range plan.Limits() {
		if plan.Algorithm() == gcra.Window {
			at := e.logs[i].Take(now, l.Count, cost)
			e.until = max(e.until, at+int64(l.Period))
		} else {
			e.tats[i] = plan.Policies()[i].Take(e.tats[i], cost)
			e.until = max(e.until, e.tats[i])
		}
	}
	for i, q := range plan.Quotas() {
		e.quotas[i].used += cost
		e.until = max(e.until, now+int64(q.Unit.Next(wall).Sub(wall)))
	}
}

// fill sets the meters of a decision.
func (e *exact) fill(plan *gcra.Plan, now int64, wall time.Time, cost int64, d *gcra.Decision) {
	limits := plan.Limits()
	if plan.Algorithm() == gcra.Window {
		for i, l := range limits {
			period := int64(l.Period)
			d.Meters[i] = gcra.Meter{
				Remaining: max(0, l.Count-e.logs[i].Used(now, period)),
				Reset:     e.logs[i].Reset(now, period),
				Over:      d.Wait > 0 && e.logs[i].Wait(now, period, l.Count, cost) != 0,
			}
		}
	} else {
		d.Fill(plan, e.tats[:len(limits)], now, cost)
	}
	for i, q := range plan.Quotas() {
		m := gcra.Meter{Remaining: max(0, q.Count-e.quotas[i].used), Over: d.Wait > 0 && e.quotas[i].used+cost > q.Count}
		if m.Remaining < q.Count {
			m.Reset = int64(q.Unit.Next(wall).Sub(wall))
		}
		d.Meters[len(limits)+i] = m
	}
}

// SeedExact sets how much of a key was used, as reported by another store: how far
// the limits' TATs are ahead of now, and how many units of the quotas remain. State
// that says that more was used is kept. Windows cannot be seeded.
func (s *Store) SeedExact(key string, plan *gcra.Plan, debts, remaining []int64) {
	h := s.hash(key)
	now, wall := s.clock(), s.wall()
	sh := s.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := s.entry(sh, h, now)
	e.prepare(plan, now, wall)
	for i, debt := range debts {
		e.tats[i] = max(e.tats[i], now+debt)
		e.until = max(e.until, e.tats[i])
	}
	for i, q := range plan.Quotas() {
		e.quotas[i].used = max(e.quotas[i].used, q.Count-remaining[i])
		e.until = max(e.until, now+int64(q.Unit.Next(wall).Sub(wall)))
	}
}

func (s *Store) decideExact(sh *shard, h xxh3.Uint128, plan *gcra.Plan, cost, now int64, d *gcra.Decision) {
	wall := s.wall()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := s.entry(sh, h, now)
	now = e.prepare(plan, now, wall)
	if d.Wait = e.wait(plan, now, wall, cost); d.Wait == 0 && cost > 0 {
		e.take(plan, now, wall, cost)
	}
	d.At, d.Delay = now, 0
	e.fill(plan, now, wall, cost, d)
}

func (s *Store) peekExact(sh *shard, h xxh3.Uint128, plan *gcra.Plan, cost, now int64, d *gcra.Decision) {
	wall := s.wall()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.exact[h]
	if e == nil {
		e = &exact{}
	}
	now = e.prepare(plan, now, wall)
	d.Wait, d.Delay = e.wait(plan, now, wall, cost), 0
	e.fill(plan, now, wall, cost, d)
}

func (s *Store) refundExact(sh *shard, h xxh3.Uint128, plan *gcra.Plan, cost, at int64) {
	wall := s.wall()
	now := s.clock()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.exact[h]
	if e == nil {
		return
	}
	if plan.Algorithm() == gcra.Window {
		for i := range e.logs {
			e.logs[i].Refund(at, cost)
		}
	} else {
		for i, p := range plan.Policies() {
			e.tats[i] = p.Refund(e.tats[i], now, cost)
		}
	}
	// Units of a period that has ended are not given back to the next one.
	began := wall.Add(-time.Duration(now - at))
	for i, q := range plan.Quotas() {
		if i < len(e.quotas) && e.quotas[i].start == q.Unit.Start(wall).UnixNano() && q.Unit.Start(began).Equal(q.Unit.Start(wall)) {
			e.quotas[i].used = max(0, e.quotas[i].used-cost)
		}
	}
}
