// Package memory is the first tier of the cache: what this process keeps of
// its own.
//
// One budget of bytes bounds it, which bodies, fields, keys and an estimate of
// the bookkeeping count against. What stays is decided by how often it is asked
// for (W-TinyLFU), so that a crawler that reads everything once does not push
// out what people read.
package memory

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// DefaultMaximum is the budget in bytes where none is given.
const DefaultMaximum = 256 << 20

const (
	// overhead is the bookkeeping for one entry, in bytes, as measured.
	overhead = 320
	// resolution is how exactly entries end. It only frees memory: whether a
	// response is fresh is decided by the time of the request.
	resolution = 250 * time.Millisecond
)

// Store keeps entries in the memory of this process. Its methods may be called
// by many goroutines at once.
type Store struct {
	cache   *otter.Cache[[16]byte, *item]
	clock   otter.Clock
	maximum atomic.Int64

	// Of Sweep: whether one is under way, and whether another is to follow.
	mu       sync.Mutex
	sweeping bool
	again    bool
	closed   atomic.Bool
	sweeps   sync.WaitGroup

	// unsettled are the bytes that were set since the last eviction.
	unsettled atomic.Int64

	entries, bytes, evictions, evictedBytes, refused atomic.Int64
}

// item is an entry with what the tier needs to know of it.
type item struct {
	entry *object.Entry
	size  uint32
	until int64
}

// New returns an empty tier with a budget of maximum bytes. Close ends it.
func New(maximum int64) *Store {
	return newStore(maximum, otter.NewCoarseClock(resolution))
}

func newStore(maximum int64, clock otter.Clock) *Store {
	if maximum <= 0 {
		maximum = DefaultMaximum
	}
	s := &Store{clock: clock}
	s.maximum.Store(maximum)
	s.cache = otter.Must(&otter.Options[[16]byte, *item]{
		MaximumWeight: uint64(maximum),
		Weigher:       func(_ [16]byte, it *item) uint32 { return it.size },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[[16]byte, *item]) time.Duration {
			return time.Duration(max(e.Value.until-clock.NowNano(), 1))
		}),
		OnAtomicDeletion: s.deleted,
		Clock:            clock,
	})
	return s
}

func (s *Store) deleted(e otter.DeletionEvent[[16]byte, *item]) {
	size := int64(e.Value.size)
	s.bytes.Add(-size)
	s.entries.Add(-1)
	if e.Cause == otter.CauseOverflow {
		s.evictions.Add(1)
		s.evictedBytes.Add(size)
	}
}

// Get returns the entry of the key, or nil. It copies nothing.
func (s *Store) Get(key object.Key) *object.Entry {
	it, ok := s.cache.GetIfPresent(key.Hash)
	if !ok || it.entry.Key.Full != key.Full {
		return nil
	}
	return it.entry
}

// Peek is Get without effect on what is evicted.
func (s *Store) Peek(key object.Key) *object.Entry {
	e, ok := s.cache.GetEntryQuietly(key.Hash)
	if !ok || e.Value.entry.Key.Full != key.Full {
		return nil
	}
	return e.Value.entry
}

// Set keeps the entry, if it is asked for often enough, until its last useful
// moment. An entry without one, or larger than half of the budget, is not kept;
// neither is what was kept before under its key.
func (s *Store) Set(key object.Key, e *object.Entry) {
	until := e.UsefulUntil().UnixNano()
	size := int64(e.Size()) + overhead
	if size > s.maximum.Load()/2 || size > math.MaxUint32 {
		s.refused.Add(1)
		s.Delete(key)
		return
	}
	if until <= s.clock.NowNano() {
		s.Delete(key)
		return
	}
	s.bytes.Add(size)
	s.entries.Add(1)
	s.cache.Set(key.Hash, &item{entry: e, size: uint32(size), until: until})

	// Eviction follows the writes with some delay. With large bodies that would
	// be a multiple of a small budget, so it is made to keep up.
	if s.unsettled.Add(size) > s.maximum.Load()/64 {
		s.unsettled.Store(0)
		s.cache.CleanUp()
	}
}

// Delete forgets the entry.
func (s *Store) Delete(key object.Key) { s.cache.Invalidate(key.Hash) }

// Sweep forgets, in the background, all entries that dead reports as unusable. It asks a second time if it is called while it is at work.
func (s *Store) Sweep(dead func(*object.Entry) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = true
	if s.sweeping || s.closed.Load() {
		return
	}
	s.sweeping = true
	s.sweeps.Go(func() {
		for s.more() {
			s.sweep(dead)
		}
	})
}

// more reports whether a sweep is to be made.
func (s *Store) more() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweeping = s.again && !s.closed.Load()
	s.again = false
	return s.sweeping
}

func (s *Store) sweep(dead func(*object.Entry) bool) {
	for hash, it := range s.cache.All() {
		if s.closed.Load() {
			return
		}
		if !dead(it.entry) {
			continue
		}
		// Only this entry: another may have taken its place.
		s.cache.ComputeIfPresent(hash, func(now *item) (*item, otter.ComputeOp) {
			if now == it {
				return nil, otter.InvalidateOp
			}
			return nil, otter.CancelOp
		})
	}
}

// Each calls f for each entry, until it returns false.
func (s *Store) Each(f func(*object.Entry) bool) {
	for _, it := range s.cache.All() {
		if !f(it.entry) {
			return
		}
	}
}

// SetMaximum changes the budget. What is too much is evicted at once.
func (s *Store) SetMaximum(maximum int64) {
	if maximum <= 0 {
		maximum = DefaultMaximum
	}
	if s.maximum.Swap(maximum) != maximum {
		s.cache.SetMaximum(uint64(maximum))
	}
}

// Maximum returns the budget in bytes.
func (s *Store) Maximum() int64 { return s.maximum.Load() }

// Close ends the tier's goroutines and frees what it keeps.
func (s *Store) Close() {
	s.mu.Lock()
	already := s.closed.Swap(true)
	s.mu.Unlock()
	if already {
		return
	}
	s.sweeps.Wait()
	s.cache.StopAllGoroutines()
	s.cache.InvalidateAll()
	if c, ok := s.clock.(*otter.CoarseClock); ok {
		c.Stop()
	}
}

// Stats are numbers of the tier, for metrics and the admin API.
type Stats struct {
	// Entries is the number of keys kept.
	Entries int64 `json:"entries"`
	// Bytes are kept of the Maximum.
	Bytes   int64 `json:"bytes"`
	Maximum int64 `json:"maximum_bytes"`
	// Evictions and EvictedBytes count what had to go, or was not admitted, for
	// lack of space since the start.
	Evictions    int64 `json:"evictions"`
	EvictedBytes int64 `json:"evicted_bytes"`
	// Refused counts entries larger than half of the budget.
	Refused int64 `json:"refused"`
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	return Stats{
		Entries: s.entries.Load(), Bytes: s.bytes.Load(), Maximum: s.maximum.Load(),
		Evictions: s.evictions.Load(), EvictedBytes: s.evictedBytes.Load(), Refused: s.refused.Load(),
	}
}
