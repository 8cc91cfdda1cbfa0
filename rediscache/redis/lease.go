package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/rediscache/object"
)

const (
	// The time between two looks for what another gateway stores grows from the
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
// the budget, and is granted if Redis does not answer: then everybody fills for
// themselves. release does not wait; it takes effect after the writes of the
// same key that were asked for before.
func (s *Store) Lease(ctx context.Context, key object.Key, life time.Duration) (free func(), granted bool) {
	none := func() {}
	if life < time.Millisecond {
		return none, true
	}
	token := rand.Text()
	err := s.ask(ctx, func(ctx context.Context) error {
		err := s.o.Client.SetArgs(ctx, s.key(key, "l"), token, redis.SetArgs{Mode: "NX", TTL: life}).Err()
		if errors.Is(err, redis.Nil) {
			return errTaken
		}
		return err
	})
	switch {
	case errors.Is(err, errTaken):
		return none, false
	case err != nil:
		return none, true
	}
	return func() { s.enqueue(job{key: key, token: token}) }, true
}

// errTaken says that another gateway has the lease. It is an answer.
var errTaken = errors.New("another gateway has the lease")

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
		// The lease is looked at first: what its holder stored before it ended
		// is found afterwards.
		held := make(chan bool, 1)
		err := s.ask(ctx, func(ctx context.Context) error {
			n, err := s.o.Client.Exists(ctx, s.key(key, "l")).Result()
			held <- n > 0
			return err
		})
		if err != nil {
			return nil
		}
		if e := s.Select(ctx, key, match); e != nil && usable(e) {
			return e
		}
		if !<-held {
			return nil
		}
	}
}
