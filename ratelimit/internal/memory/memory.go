// Package memory keeps the state of rate limits in this process.
//
// A key takes 16 bytes per limit, of which 8 are state, in a table at most three
// quarters full. Keys are stored as a hash with a random seed. 71 bits of it
// distinguish the keys of a full-sized store: the probability that any two of a
// million share a counter is 2·10⁻¹⁰. A decision allocates nothing.
package memory

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// DefaultMaxKeys is the default of Options.MaxKeys.
const DefaultMaxKeys = 1_000_000

// keysPerShard is the least number of keys of a shard: with fewer, shards would be
// too unevenly filled.
const keysPerShard = 4096

const maxShards = 128

// epoch is the zero of Monotonic: an hour ago, so that times before the start of
// the process are above zero too.
var epoch = time.Now().Add(-time.Hour)

// Monotonic is the default clock of stores, in nanoseconds. It never goes back.
func Monotonic() int64 { return int64(time.Since(epoch)) }

// Options are the settings of a store. The zero value is usable.
type Options struct {
	// MaxKeys is the most keys whose state is kept. When more are active, the one
	// nearest to being idle is evicted. Default: DefaultMaxKeys.
	MaxKeys int

	// Clock returns nanoseconds that never go back. Default: Monotonic.
	Clock func() int64

	// Wall returns the time of day, for quotas. Default: time.Now.
	Wall func() time.Time
}

// Store keeps the state of one zone.
type Store struct {
	clock     func() int64
	wall      func() time.Time
	seed      uint64
	shift     uint
	shards    []shard
	maxKeys   atomic.Int64
	evictions atomic.Uint64
}

// shard is a part of the keys, with its own lock and cache lines.
type shard struct {
	mu    sync.Mutex
	table table
	exact map[xxh3.Uint128]*exact
	_     [64]byte
}

// New returns an empty store.
func New(o Options) *Store {
	if o.Clock == nil {
		o.Clock = Monotonic
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.MaxKeys <= 0 {
		o.MaxKeys = DefaultMaxKeys
	}
	n := 1
	for n < maxShards && o.MaxKeys/n > keysPerShard*2 {
		n *= 2
	}
	s := &Store{
		clock:  o.Clock,
		wall:   o.Wall,
		seed:   rand.Uint64(),
		shift:  uint(64 - bits.TrailingZeros(uint(n))),
		shards: make([]shard, n),
	}
	s.maxKeys.Store(int64(o.MaxKeys))
	return s
}

// SetMaxKeys changes the most keys whose state is kept, after a reload.
func (s *Store) SetMaxKeys(n int) {
	if n <= 0 {
		n = DefaultMaxKeys
	}
	s.maxKeys.Store(int64(n))
}

// Evictions returns how many active keys were evicted so far.
func (s *Store) Evictions() uint64 { return s.evictions.Load() }

// limit is the most slots of a shard for keys with that many meters.
func (s *Store) limit(meters int) int {
	return max(1, int(s.maxKeys.Load())/len(s.shards)) * meters
}

func (s *Store) hash(key string) xxh3.Uint128 {
	return xxh3.HashString128Seed(key, s.seed)
}

func (s *Store) shard(h xxh3.Uint128) *shard {
	// With one shard the shift is 64, which gives 0.
	return &s.shards[h.Hi>>s.shift]
}

// meterTag identifies meter i of a key in its shard.
func meterTag(h xxh3.Uint128, i int) uint64 {
	tag := h.Lo + uint64(i)*0x9e3779b97f4a7c15
	if tag == 0 {
		tag = 1 // zero marks an empty slot
	}
	return tag
}

// Decide takes cost units of key under every limit of the plan, or none, and
// fills d. A cost of 0 takes nothing; a negative one gives units back.
func (s *Store) Decide(key string, plan *gcra.Plan, cost int64, d *gcra.Decision) {
	h := s.hash(key)
	now := s.clock()
	sh := s.shard(h)
	d.Len, d.At, d.Source = plan.Len(), now, gcra.Memory
	if !plan.Simple() {
		s.decideExact(sh, h, plan, cost, now, d)
		return
	}
	policies := plan.Policies()
	var (
		tats [gcra.MaxMeters]int64
		at   [gcra.MaxMeters]*slot
	)
	sh.mu.Lock()
	for i := range policies {
		if at[i] = sh.table.find(meterTag(h, i)); at[i] != nil {
			tats[i] = at[i].tat
		}
	}
	d.Wait = gcra.Decide(policies, tats[:len(policies)], now, cost)
	fresh := false
	for i := range policies {
		if at[i] != nil {
			// Also after a refusal: a TAT beyond the tolerance must not remain.
			at[i].tat = tats[i]
		} else {
			fresh = true
		}
	}
	if fresh && d.Wait == 0 && cost > 0 {
		s.insert(sh, h, policies, &tats, &at, now)
	}
	sh.mu.Unlock()
	d.Fill(plan, tats[:len(policies)], now, max(cost, 0))
}

// insert adds the limits of a key that have no slot yet. Pointers into the
// table are invalid afterwards.
func (s *Store) insert(sh *shard, h xxh3.Uint128, policies []gcra.Policy, tats *[gcra.MaxMeters]int64, at *[gcra.MaxMeters]*slot, now int64) {
	limit := s.limit(len(policies))
	for i := range policies {
		if at[i] != nil || tats[i] <= now {
			continue
		}
		if sh.table.put(meterTag(h, i), tats[i], now, limit) {
			s.evictions.Add(1)
		}
	}
}

// Peek fills d with what Decide would answer, and takes nothing.
func (s *Store) Peek(key string, plan *gcra.Plan, cost int64, d *gcra.Decision) {
	h := s.hash(key)
	now := s.clock()
	sh := s.shard(h)
	d.Len, d.At, d.Source = plan.Len(), now, gcra.Memory
	if !plan.Simple() {
		s.peekExact(sh, h, plan, cost, now, d)
		return
	}
	policies := plan.Policies()
	var tats [gcra.MaxMeters]int64
	sh.mu.Lock()
	sh.read(h, tats[:len(policies)])
	sh.mu.Unlock()
	d.Wait = 0
	for i, p := range policies {
		tats[i] = p.Clamp(tats[i], now)
		d.Wait = max(d.Wait, p.Wait(tats[i], now, cost))
	}
	d.Fill(plan, tats[:len(policies)], now, cost)
}

func (sh *shard) read(h xxh3.Uint128, tats []int64) {
	for i := range tats {
		if at := sh.table.find(meterTag(h, i)); at != nil {
			tats[i] = at.tat
		}
	}
}

// Refund gives back cost units that Decide admitted at d.At.
func (s *Store) Refund(key string, plan *gcra.Plan, cost, at int64) {
	var d gcra.Decision
	if plan.Simple() {
		s.Decide(key, plan, -cost, &d)
		return
	}
	h := s.hash(key)
	s.refundExact(s.shard(h), h, plan, cost, at)
}

// Reset removes the state of a key and reports whether there was any.
func (s *Store) Reset(key string) bool {
	h := s.hash(key)
	now := s.clock()
	sh := s.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	_, found := sh.exact[h]
	delete(sh.exact, h)
	for i := range gcra.MaxMeters {
		if at := sh.table.find(meterTag(h, i)); at != nil {
			found = found || at.tat > now
			at.tat = 0
		}
	}
	return found
}

// Debts fills debts with how far each limit's TAT is ahead of now.
func (s *Store) Debts(key string, debts []int64) {
	h := s.hash(key)
	now := s.clock()
	sh := s.shard(h)
	clear(debts)
	sh.mu.Lock()
	sh.read(h, debts)
	sh.mu.Unlock()
	for i := range debts {
		debts[i] = max(0, debts[i]-now)
	}
}

// Seed sets how far each limit's TAT is ahead of now, as reported by another
// store. Idle limits are not stored.
func (s *Store) Seed(key string, debts []int64) {
	h := s.hash(key)
	now := s.clock()
	sh := s.shard(h)
	limit := s.limit(len(debts))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for i, debt := range debts {
		if at := sh.table.find(meterTag(h, i)); at != nil {
			at.tat = now + debt
		} else if debt > 0 && sh.table.put(meterTag(h, i), now+debt, now, limit) {
			s.evictions.Add(1)
		}
	}
}
