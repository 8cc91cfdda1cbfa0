package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

const (
	// The time between two look-ups of what another gateway stores grows from the
	// first to the last.
	firstAwait = 10 * time.Millisecond
	lastAwait  = 100 * time.Millisecond
)

// release ends a lease, if it is still the caller's. KEYS[1] the lease, ARGV[1]
// its token.
const release = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`

// Lease asks to be the one gateway that fills the key. It takes no longer than
// the budget, and is granted if Redis does not answer: then each gateway asks
// the origin. free does not wait; it takes effect after the writes of the
// same key that were asked for before.
func (s *Store) Lease(ctx context.Context, key object.Key, life time.Duration) (free func(), granted bool) {
	none := func() {}
	if life < time.Millisecond || !s.partition(key).Writable() {
		return none, true
	}
	token := rand.Text()
	limited, end := availability.Limit(ctx, s.o.Budget)
	defer end()
	if limited.Err() != nil {
		return none, true
	}
	_, err := ask(s, s.partition(key), ctx, limited, func(ctx context.Context) (string, error) {
		return s.o.Client.SetArgs(ctx, s.key(key, "l"), token, redis.SetArgs{Mode: "NX", TTL: life}).Result()
	})
	switch {
	case errors.Is(err, redis.Nil):
		return none, false // another gateway has it
	case errors.Is(err, errNotAsked):
		return none, true
	}
	// After an error it is given back too: Redis may have granted it too late, and the
	// other gateways would wait until it expires.
	return func() { s.enqueue(job{key: key, token: token}) }, true
}

// Await waits for what the holder of the lease stores, until usable accepts an
// entry, the lease ends or ctx is done.
func (s *Store) Await(ctx context.Context, key object.Key, match func(vary []string, variant string) bool, usable func(*object.Entry) bool) *object.Entry {
	for wait := firstAwait; ; wait = min(wait*2, lastAwait) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		// The lease is read first: what its holder stored before it ended is found
		// afterwards.
		limited, cancel := context.WithTimeout(ctx, s.o.Budget)
		held, err := ask(s, s.partition(key), ctx, limited, func(ctx context.Context) (int64, error) {
			return s.o.Client.Exists(ctx, s.key(key, "l")).Result()
		})
		cancel()
		if err != nil {
			return nil
		}
		if e := s.Select(ctx, key, match); e != nil && usable(e) {
			return e
		}
		if held == 0 {
			return nil
		}
	}
}
