// Package cache holds the results of verifying whole tokens, within bounds.
//
// The key is the provider and the SHA-256 of the token. As SHA-256 has no known
// collisions, equal keys mean equal tokens, and no credential is kept in memory.
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

// Overhead is the memory of an entry beside its value, in bytes: its key, twice,
// its links and its share of the map.
const Overhead = 256

// Cache is bounded in entries and in bytes. When it is full, it evicts entries that
// were not used since the hand last passed them (SIEVE: Zhang et al., NSDI 2024), so
// that a flood of tokens that are used once does not evict the others.
type Cache[V any] struct {
	shards  [shards]shard[V]
	evicted atomic.Uint64
}

type shard[V any] struct {
	mu         sync.RWMutex
	entries    map[Key]*entry[V]
	head, tail *entry[V] // newest and oldest
	hand       *entry[V] // the next candidate for eviction
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

// New returns a cache of at most so many entries and bytes. Each shard has an equal
// share of both.
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

// Get returns the value of a token that has not expired.
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

// Put stores a value of size bytes until it expires. A value that is larger than a
// shard is not stored.
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

// Delete removes a token.
func (c *Cache[V]) Delete(key *Key) {
	s := c.shard(key)
	s.mu.Lock()
	if e := s.entries[*key]; e != nil {
		s.remove(e)
	}
	s.mu.Unlock()
}

// evict removes one entry; there is at least one.
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

// Stats returns the entries, their size, and the number of evictions.
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
