package deny

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/app/replog"
)

// Bounds and defaults.
const (
	// DefaultEntries is how many revocations there can be at one time.
	DefaultEntries = 100_000
	// DefaultTTL is how long a revocation without a TTL of its own lasts.
	DefaultTTL = 24 * time.Hour
	// MaxTTL is the longest that a revocation lasts.
	MaxTTL = 366 * 24 * time.Hour
	// maxSilence is how long the list is trusted without an answer of Redis.
	maxSilence = 10 * time.Second
)

// Shared is whether other gateways have a change.
type Shared string

// The values of Shared.
const (
	SharedYes     Shared = "yes"
	SharedNo      Shared = "no"      // there is no Redis
	SharedPending Shared = "pending" // Redis is unreachable; the change is written when it is back
)

// Options of a Store.
type Options struct {
	// Redis is where gateways share; nil keeps everything in memory.
	Redis redis.UniversalClient
	// Availability decides when Redis can be used. Required with Redis.
	Availability *availability.Engine
	// Prefix of the keys in Redis.
	Prefix string
	// Observe is called when Redis becomes unreachable (with the error) and when it
	// is reachable again (nil).
	Observe func(err error)
	// Now is the clock; nil is the real one.
	Now func() time.Time
}

// Store is a list and the log by which gateways share it.
type Store struct {
	List

	now      func() time.Time
	log      *replog.Log // nil without Redis
	position atomic.Uint64
	entries  atomic.Int64
	ttl      atomic.Int64
}

// New returns a store. It does nothing until Start.
func New(o Options) *Store {
	s := &Store{now: o.Now}
	if s.now == nil {
		s.now = time.Now
	}
	if o.Redis != nil {
		key := o.Prefix + ":{jwt_deny}"
		s.log = replog.New(replica{s}, replog.Options{
			Client: o.Redis, Availability: o.Availability, Name: "revocations", Life: MaxTTL + 24*time.Hour, Observe: o.Observe, Now: s.now,
			Keys: replog.Keys{Log: key + ":positions", State: key + ":entries", Expires: key + ":expiries", Channel: key},
		})
	}
	return s
}

// Raise sets how much can be revoked and how long it lasts by default, unless
// it is more already: handlers that share a store get the largest.
func (s *Store) Raise(entries int, ttl time.Duration) {
	raise := func(v *atomic.Int64, to int64) {
		for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
		}
	}
	raise(&s.entries, int64(entries))
	raise(&s.ttl, int64(ttl))
}

// TTL is how long a revocation lasts by default.
func (s *Store) TTL() time.Duration { return time.Duration(s.ttl.Load()) }

// Now is the store's clock.
func (s *Store) Now() time.Time { return s.now() }

// Start begins to follow Redis.
func (s *Store) Start() {
	if s.log != nil {
		s.log.Start()
	}
}

// Close ends it.
func (s *Store) Close() {
	if s.log != nil {
		s.log.Close()
	}
}

// Fresh reports whether the list can be trusted: it was read, and Redis has
// answered within maxSilence.
func (s *Store) Fresh(now time.Time) bool {
	if s.log == nil {
		return true
	}
	contact := s.log.Contact()
	return !contact.IsZero() && now.Sub(contact) < maxSilence
}

// Live returns the number of revocations that have not expired.
func (s *Store) Live() int {
	s.sweep(s.now(), true)
	return s.Len()
}

// Revoke adds an entry. It applies in this gateway at once, also while Redis is
// unreachable.
func (s *Store) Revoke(ctx context.Context, e Entry) (Shared, error) {
	now := s.now()
	limit := int(s.entries.Load())
	s.sweep(now, s.Len() >= limit)
	if s.Len() >= limit && !s.has(e.ID) {
		return SharedNo, ErrFull
	}
	m := e.mark()
	enter := func() { s.apply(e.ID, m) }
	if s.log == nil {
		enter()
		return SharedNo, nil
	}
	if s.log.Append(ctx, enter, replog.Entry{Key: e.ID.String(), Value: m.before, Expires: m.expires}) {
		return SharedYes, nil
	}
	return SharedPending, nil
}

// Restore removes an entry, and reports whether there was one. It fails while Redis
// is unreachable.
func (s *Store) Restore(ctx context.Context, id ID) (bool, error) {
	if s.log == nil {
		return s.forget(id), nil
	}
	existed, err := s.log.Remove(ctx, id.String(), func() { s.confirm(id, 0) })
	if err != nil {
		return false, err
	}
	// An entry that Redis does not have is not in the log either.
	return existed || s.forget(id), nil
}

// Reach tells which gateways know of a change that Redis, if there is one, has
// confirmed.
func (s *Store) Reach() Shared {
	if s.log == nil {
		return SharedNo
	}
	return SharedYes
}
