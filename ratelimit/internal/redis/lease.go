package redis

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

const (
	// leaseShare is the lifetime of a lease as a part of the shortest period. It
	// is also the part of the limit by which leases may exceed it.
	leaseShare = 50 // a fiftieth, 2 %

	// returnBudget is the longest that giving units back waits for Redis.
	returnBudget = 500 * time.Millisecond

	minLife = 10 * time.Millisecond
	maxLife = time.Second

	// minLease is the demand during one life from which on a lease is worth its
	// round trip. Colder keys are decided strictly: the units of a lease on them
	// would expire unused.
	minLease = 8

	leaseShards   = 32
	leasePerShard = 2048
)

// Life returns how long units of a plan may be spent after they were reserved.
// Leases admit at most rate × Life more than the limit.
func Life(plan *gcra.Plan) time.Duration {
	return min(max(plan.Shortest()/leaseShare, minLife), maxLife)
}

// leases are the units that this gateway has reserved, by key.
type leases struct {
	shards [leaseShards]leaseShard

	granted, spent, returned atomic.Uint64

	// closed and, from 0, refills change under the engine's lock.
	closed  bool
	refills sync.WaitGroup
}

type leaseShard struct {
	mu   sync.Mutex
	keys map[string]*held
	_    [64]byte
}

// grant is a number of units that may be spent until it expires. Unspent ones
// are lost: they were debited in Redis when they were reserved.
type grant struct {
	units   int64
	expires int64
}

// held is what is known of one key: how much is asked for, and what is
// reserved.
type held struct {
	plan *gcra.Plan
	life int64

	// Units asked for since window began, and their moving average per life.
	window int64
	asked  int64
	demand float64

	current, next grant
	size          int64 // of the latest grant
	refilling     bool
	pause         int64 // no refill before
	received      int64
	meters        [gcra.MaxMeters]gcra.Meter
}

func (l *leases) init() {
	for i := range l.shards {
		l.shards[i].keys = make(map[string]*held)
	}
}

func (l *leases) shard(key string) *leaseShard {
	return &l.shards[xxh3.HashString(key)%leaseShards]
}

// note counts demand.
func (h *held) note(now, cost int64) {
	if now-h.window >= h.life {
		// Lives without any demand count as such.
		lives := (now - h.window) / h.life
		h.demand = h.demand*math.Pow(0.5, float64(min(lives, 30))) + 0.5*float64(h.asked)*math.Pow(0.5, float64(min(lives-1, 30)))
		h.window, h.asked = now, 0
	}
	h.asked += cost
}

// hot reports whether leases of the key are worth their round trips.
func (h *held) hot() bool { return max(h.demand, float64(h.asked)) >= minLease }

// margin is the part of the expected demand that is reserved: units that
// are reserved and not spent are lost, those that are missing are decided strictly.
const margin = 0.8

// want is the number of units to reserve: those that will be asked for during
// one life, but what is there already.
func (h *held) want(now int64) int64 {
	expected := h.demand
	if expected == 0 {
		expected = float64(h.asked)
	}
	return int64(margin*expected) - h.left(now)
}

// take spends units that are reserved.
func (h *held) take(now, cost int64) (expires int64, ok bool) {
	if h.current.units < cost || now >= h.current.expires {
		if now < h.current.expires && h.current.units > 0 && h.next.units == 0 {
			return 0, false
		}
		h.current, h.next = h.next, grant{}
		if h.current.units < cost || now >= h.current.expires {
			return 0, false
		}
	}
	h.current.units -= cost
	return h.current.expires, true
}

// left is the number of units that may still be spent.
func (h *held) left(now int64) (n int64) {
	for _, g := range [...]grant{h.current, h.next} {
		if now < g.expires {
			n += g.units
		}
	}
	return n
}

// leased answers a call from reserved units. It returns false when there are
// none; the call is then decided strictly, while a hot key's lease is on its
// way.
func (z *Zone) leased(c *Call) bool {
	now := z.engine.clock()
	s := z.leases.shard(c.Key)
	s.mu.Lock()
	h := s.keys[c.Key]
	if h == nil || h.plan != c.Plan {
		if h = s.add(c.Key, c.Plan, now); h == nil {
			s.mu.Unlock()
			return false
		}
	}
	h.note(now, c.Cost)
	expires, ok := h.take(now, c.Cost)
	refill := !h.refilling && now >= h.pause && h.next.units == 0 && h.left(now) <= h.size/3 && h.hot()
	want := int64(0)
	if refill {
		want = h.want(now)
		refill = want > 0
	}
	if refill {
		h.refilling = true
	}
	if ok {
		d := c.Decision
		d.Wait, d.Delay, d.At, d.Source, d.Len = 0, 0, expires, gcra.Lease, c.Plan.Len()
		left, age := h.left(now), now-h.received
		for i := range d.Len {
			m := h.meters[i]
			d.Meters[i] = gcra.Meter{Remaining: m.Remaining + left, Reset: max(0, m.Reset-age)}
		}
	}
	s.mu.Unlock()
	if ok {
		z.leases.spent.Add(uint64(c.Cost))
	}
	if refill {
		z.startRefill(c, h, want)
	}
	return ok
}

// add makes room for a key, or returns nil when all that are there are in use.
func (s *leaseShard) add(key string, plan *gcra.Plan, now int64) *held {
	if _, ok := s.keys[key]; !ok && len(s.keys) >= leasePerShard {
		tries := 0
		for k, h := range s.keys {
			if tries++; tries > 4 {
				return nil
			}
			if now-h.window > 4*h.life && !h.refilling && h.left(now) == 0 {
				delete(s.keys, k)
				break
			}
		}
		if len(s.keys) >= leasePerShard {
			return nil
		}
	}
	h := &held{plan: plan, life: int64(Life(plan)), window: now}
	s.keys[key] = h
	return h
}

// startRefill reserves units in the background. The request that caused it does
// not wait.
func (z *Zone) startRefill(c *Call, h *held, want int64) {
	e := z.engine
	ask := *c
	ask.Cost, ask.Request = want, nil
	ask.locate()
	stop := func() {
		s := z.leases.shard(ask.Key)
		s.mu.Lock()
		h.refilling = false
		h.pause = e.clock() + h.life
		s.mu.Unlock()
	}
	if !e.available(ask.part) {
		stop()
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || z.leases.closed {
		stop()
		return
	}
	z.leases.refills.Add(1)
	e.done.Go(func() {
		defer z.leases.refills.Done()
		// Life counts from before the call, so that it never ends late.
		sent := e.clock()
		t := newRoundTrip(lease, ask)
		defer t.release()
		if e.do(t) != nil {
			stop()
			return
		}
		z.receive(ask.Key, h, sent, &t.reply)
	})
}

// receive puts a grant to use.
func (z *Zone) receive(key string, h *held, sent int64, r *reply) {
	now := z.engine.clock()
	var tats [gcra.MaxMeters]int64
	copy(tats[:], r.debts)
	var d gcra.Decision
	d.Fill(h.plan, tats[:len(r.debts)], 0, 0)
	z.local.Seed(key, r.debts)
	s := z.leases.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	h.refilling = false
	h.meters, h.received = d.Meters, now
	if r.granted == 0 {
		h.pause = now + max(r.wait, h.life/4)
		return
	}
	z.leases.granted.Add(uint64(r.granted))
	g := grant{units: r.granted, expires: sent + h.life}
	h.size = r.granted
	if h.current.units == 0 || now >= h.current.expires {
		h.current, h.next = g, grant{}
	} else {
		h.next = g
	}
}

// refundLease gives units back to the lease from which they came, unless it has
// expired.
func (z *Zone) refundLease(c *Call) {
	s := z.leases.shard(c.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.keys[c.Key]
	if h == nil || h.plan != c.Plan {
		return
	}
	for _, g := range [...]*grant{&h.current, &h.next} {
		if g.expires == c.Decision.At {
			g.units += c.Cost
			return
		}
	}
}

// dropLease forgets a key's lease.
func (z *Zone) dropLease(key string) {
	s := z.leases.shard(key)
	s.mu.Lock()
	delete(s.keys, key)
	s.mu.Unlock()
}

// returnLeases gives unspent units back, when this gateway ends.
func (z *Zone) returnLeases(ctx context.Context) {
	// Units that are being reserved are returned too.
	z.engine.mu.Lock()
	z.leases.closed = true
	z.engine.mu.Unlock()
	received := make(chan struct{})
	go func() {
		z.leases.refills.Wait()
		close(received)
	}()
	select {
	case <-received:
	case <-ctx.Done():
		return
	}
	now := z.engine.clock()
	var trips []*roundTrip
	for i := range z.leases.shards {
		s := &z.leases.shards[i]
		s.mu.Lock()
		for key, h := range s.keys {
			n := h.left(now)
			delete(s.keys, key)
			if n > 0 && z.engine.available(partition(z.name, key)) {
				trips = append(trips, newRoundTrip(take, Call{Zone: z, Key: key, Plan: h.plan, Cost: -n, Budget: returnBudget}))
			}
		}
		s.mu.Unlock()
	}
	for _, t := range trips {
		z.engine.submit(t)
	}
	for _, t := range trips {
		select {
		case <-t.done:
			if t.err == nil {
				z.leases.returned.Add(uint64(-t.calls[0].Cost))
			}
		case <-ctx.Done():
			return
		}
	}
}

// LeaseStats are the leases of a zone.
type LeaseStats struct {
	// Granted, Spent and Returned count units; the difference is reserved now or
	// expired unspent.
	Granted, Spent, Returned uint64

	// Held is the number of keys that hold a lease.
	Held uint64
}

// LeaseStats returns what became of leased units so far.
func (z *Zone) LeaseStats() LeaseStats {
	st := LeaseStats{Granted: z.leases.granted.Load(), Spent: z.leases.spent.Load(), Returned: z.leases.returned.Load()}
	now := z.engine.clock()
	for i := range z.leases.shards {
		s := &z.leases.shards[i]
		s.mu.Lock()
		for _, h := range s.keys {
			if h.left(now) > 0 {
				st.Held++
			}
		}
		s.mu.Unlock()
	}
	return st
}
