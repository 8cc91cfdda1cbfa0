package deny

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds and defaults.
const (
	// DefaultEntries is how much can be revoked at one time.
	DefaultEntries = 100_000
	// DefaultTTL is how long a revocation lasts when nothing else is said.
	DefaultTTL = 24 * time.Hour
	// MaxSilence is how long the list is trusted without word from Redis.
	MaxSilence = 10 * time.Second
)

// Shared tells whether other gateways know of a change.
type Shared string

// The values of Shared.
const (
	SharedYes     Shared = "yes"
	SharedNo      Shared = "no"      // there is no Redis
	SharedPending Shared = "pending" // Redis does not answer; they are told when it does
)

// Options of a Store.
type Options struct {
	// Redis is where gateways share; nil keeps everything in memory. The client
	// must be patient enough for a command that blocks for a second.
	Redis redis.UniversalClient
	// Prefix of the keys in Redis.
	Prefix string
	// Observe is told when Redis is lost (with the error) and found again (nil).
	Observe func(err error)
	// Now is the clock; nil is the real one.
	Now func() time.Time
}

// Store is a list and what feeds it.
type Store struct {
	List

	o Options
	// readEvery is the constant; a test that is about the log alone sets it.
	readEvery time.Duration
	keys      []string // entries, expiries, log
	entries   atomic.Int64
	ttl       atomic.Int64

	contact atomic.Int64  // last word from Redis, in nanoseconds of Unix time; 0: the list was never read
	changes chan struct{} // holds a token while somebody changes the list

	// Under changes.
	pending map[ID]mark // what Redis was not told yet
	epoch   string      // of what Redis holds: another one after it lost everything
	seq     int64       // of the last change that is in the list
	last    string      // its name in the log

	start  sync.Once
	cancel context.CancelFunc
	ctx    context.Context
	done   sync.WaitGroup
}

// New returns a store. It does nothing until Start.
func New(o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(error) {}
	}
	s := &Store{o: o, readEvery: readEvery, changes: make(chan struct{}, 1), pending: map[ID]mark{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	// One hash tag: all keys are in one slot of a cluster.
	for _, name := range []string{"entries", "expiries", "log"} {
		s.keys = append(s.keys, o.Prefix+":{jwt_deny}:"+name)
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
func (s *Store) Now() time.Time { return s.o.Now() }

// Start begins to follow Redis.
func (s *Store) Start() {
	if s.o.Redis != nil {
		s.start.Do(func() { s.done.Go(s.follow) })
	}
}

// Destruct ends it.
func (s *Store) Destruct() error {
	s.cancel()
	s.start.Do(func() {})
	s.done.Wait()
	return nil
}

// Fresh reports whether the list can be trusted: it was read, and Redis was
// heard within MaxSilence.
func (s *Store) Fresh(now time.Time) bool {
	if s.o.Redis == nil {
		return true
	}
	contact := s.contact.Load()
	return contact != 0 && now.UnixNano()-contact < int64(MaxSilence)
}

// Live returns the number of revocations that have not expired.
func (s *Store) Live() int {
	s.sweep(s.o.Now(), true)
	return s.Len()
}

func (s *Store) lock(ctx context.Context) error {
	select {
	case s.changes <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) unlock() { <-s.changes }

// Revoke adds an entry. It holds here from now on, also when Redis does not
// answer.
func (s *Store) Revoke(ctx context.Context, e Entry) (Shared, error) {
	now := s.o.Now()
	limit := int(s.entries.Load())
	s.sweep(now, s.Len() >= limit)
	if s.Len() >= limit && !s.has(e.ID) {
		return SharedNo, ErrFull
	}
	m := e.mark()
	s.put(e.ID, m)
	if s.o.Redis == nil {
		return SharedNo, nil
	}
	if err := s.lock(ctx); err != nil {
		// The list is being read, by which the entry may be lost: it must not seem
		// to hold.
		return SharedNo, err
	}
	defer s.unlock()
	s.put(e.ID, m)
	if err := s.send(ctx, e.ID, m); err != nil {
		if errors.Is(err, ErrFull) {
			s.remove(e.ID)
			return SharedNo, err
		}
		old := s.pending[e.ID]
		s.pending[e.ID] = mark{max(old.before, m.before), max(old.expires, m.expires)}
		return SharedPending, nil
	}
	return SharedYes, nil
}

// Restore removes an entry, and reports whether there was one.
func (s *Store) Restore(ctx context.Context, id ID) (bool, error) {
	if s.o.Redis == nil {
		return s.remove(id), nil
	}
	if err := s.lock(ctx); err != nil {
		return false, err
	}
	defer s.unlock()
	removed, err := restoreScript.Run(ctx, s.o.Redis, s.keys, id.String(), logLength).Int()
	if err != nil {
		return false, err
	}
	delete(s.pending, id)
	return s.remove(id) || removed == 1, nil
}
