package redistest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RequestClient returns a client as the app makes it for the path of a request:
// with short timeouts, and without retries.
func RequestClient(tb testing.TB, addrs ...string) redis.UniversalClient {
	tb.Helper()
	return newClient(tb, 250*time.Millisecond, 100*time.Millisecond, addrs)
}

// BackgroundClient returns a client that waits for Redis however busy the machine
// is, and does not retry.
func BackgroundClient(tb testing.TB, addrs ...string) redis.UniversalClient {
	tb.Helper()
	return newClient(tb, 5*time.Second, 5*time.Second, addrs)
}

func newClient(tb testing.TB, dial, answer time.Duration, addrs []string) redis.UniversalClient {
	tb.Helper()
	c := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: addrs, DialTimeout: dial, ReadTimeout: answer, WriteTimeout: answer, PoolTimeout: answer,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, PipelinePoolSize: 8,
	})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// withoutMessages is a client whose subscriptions are made at a server that does
// not exist.
type withoutMessages struct {
	redis.UniversalClient
	nowhere redis.UniversalClient
}

func (c withoutMessages) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return c.nowhere.Subscribe(ctx, channels...)
}

// WithoutMessages returns the client with subscriptions that get no messages.
func WithoutMessages(tb testing.TB, c redis.UniversalClient) redis.UniversalClient {
	tb.Helper()
	return withoutMessages{c, BackgroundClient(tb, "127.0.0.1:1")}
}
