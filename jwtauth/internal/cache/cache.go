// Package cache remembers what became of whole tokens, within bounds.
//
// It knows a token by its provider and the SHA-256 of all of its text. That
// nobody can find two texts with one SHA-256 makes equal keys as good as equal
// tokens, and no credential is kept in memory. The digest is computed once for
// a request, and the cache never compares less than all of it.
package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Key names a token of a provider.
type Key struct {
	// Provider is the generation of the provider: two that differ in any setting
	// never have the same.
	Provider uint64
	// Digest is the SHA-256 of the whole token.
	Digest [sha256.Size]byte
}

// KeyOf returns the key of a token.
func KeyOf(provider uint64, token string) Key {
	// The bytes are only read: a copy of each token would double the cost.
	return Key{Provider: provider, Digest: sha256.Sum256(unsafe.Slice(unsafe.StringData(token), len(token)))}
}

// shards is how many locks there are; a power of two.
const shards = 32

// Overhead is what an entry takes beyond its value, in bytes: its key, twice,
// its links and its share of the map.
const Overhead = 256

// Cache is bounded in entries and in bytes. When it is full, it forgets what
// was not asked for since the last time round (SIEVE: Zhang et al., NSDI 2024),
// so that a flood of tokens that come once does not drive out the others.
type Cache[V any] struct {
	shards  [shards]shard[V]
	evicted atomic.Uint64
}

type shard[V any] struct {
	mu         sync.RWMutex
	entries    map[Key]*entry[V]
	head, tail *entry[V] // newest and oldest
	hand       *entry[V] // where to look next for one to forget
	bytes      int64
	maxEntries int
	maxBytes   int64
}

type entry[V any] struct {
	key          Key
	value        V
	size         int64
	expires      int64 // Unix nanoseconds
	used         atomic.Bool
	newer, older *entry[V]
}

// New makes a cache that holds at most so many entries and bytes. Each of its
// parts gets an equal share of both.
func New[V any](entries int, bytes int64) *Cache[V] {
	c := new(Cache[V])
	for i := range c.shards {
		s := &c.shards[i]
		s.entries = map[Key]*entry[V]{}
		s.maxEntries = max(entries/shards, 1)
		s.maxBytes = bytes / shards
	}
	return c
}

func (c *Cache[V]) shard(key *Key) *shard[V] {
	return &c.shards[binary.LittleEndian.Uint32(key.Digest[:])%shards]
}

// Get returns what is remembered of a token.
func (c *Cache[V]) Get(key *Key, now time.Time) (value V, ok bool) {
	s := c.shard(key)
	s.mu.RLock()
	e := s.entries[*key]
	if e == nil || now.UnixNano() >= e.expires {
		s.mu.RUnlock()
		return value, false
	}
	value = e.value
	if !e.used.Load() {
		e.used.Store(true)
	}
	s.mu.RUnlock()
	return value, true
}

// Put remembers a value of so many bytes until it expires. A value that is
// larger than what a part may hold is not remembered.
func (c *Cache[V]) Put(key *Key, value V, size int64, expires time.Time) {
	size += Overhead
	s := c.shard(key)
	if size > s.maxBytes {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.entries[*key]; old != nil {
		s.remove(old)
	}
	for len(s.entries) >= s.maxEntries || s.bytes+size > s.maxBytes {
		s.evict()
		c.evicted.Add(1)
	}
	e := &entry[V]{key: *key, value: value, size: size, expires: expires.UnixNano(), older: s.head}
	if s.head != nil {
		s.head.newer = e
	}
	s.head = e
	if s.tail == nil {
		s.tail = e
	}
	s.entries[*key] = e
	s.bytes += size
}

// Delete forgets a token.
func (c *Cache[V]) Delete(key *Key) {
	s := c.shard(key)
	s.mu.Lock()
	if e := s.entries[*key]; e != nil {
		s.remove(e)
	}
	s.mu.Unlock()
}

// evict forgets one entry; there is one.
func (s *shard[V]) evict() {
	e := s.hand
	for {
		if e == nil {
			e = s.tail
		}
		if !e.used.Swap(false) {
			break
		}
		e = e.newer
	}
	s.hand = e
	s.remove(e)
}

func (s *shard[V]) remove(e *entry[V]) {
	if s.hand == e {
		s.hand = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		s.head = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		s.tail = e.newer
	}
	delete(s.entries, e.key)
	s.bytes -= e.size
}

// Stats returns how much is remembered, and how many entries were forgotten to
// make room.
func (c *Cache[V]) Stats() (entries int, bytes int64, evicted uint64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		entries += len(s.entries)
		bytes += s.bytes
		s.mu.RUnlock()
	}
	return entries, bytes, c.evicted.Load()
}
