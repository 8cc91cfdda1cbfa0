package deny

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// reads counts how often a client reads all revocations.
type reads struct{ n atomic.Int64 }

func (r *reads) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (r *reads) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hscan" {
			r.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (r *reads) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// What one gateway revokes and takes back comes to the other by the log of
// changes: everything is not read again for an hour, but after a connection was
// lost, which then does not count.
func TestChangesComeByTheLogAlone(t *testing.T) {
	rs := redistest.Start(t)
	counted := new(reads)
	patient := func() *Store {
		client := redis.NewClient(&redis.Options{Addr: rs.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1, PoolSize: 4, ReadTimeout: time.Minute})
		client.AddHook(counted)
		s := New(Options{Redis: client, Prefix: "push"})
		s.readEvery = time.Hour
		s.Raise(1000, time.Hour)
		s.Start()
		t.Cleanup(func() { _ = s.Destruct(); _ = client.Close() })
		return s
	}
	a, b := patient(), patient()
	fresh(t, a, b)
	pushed := 0
	for i := 0; pushed < 10; i++ {
		if i == 30 {
			t.Fatal("changes come only when everything is read anew")
		}
		before := counted.n.Load()
		jti := strconv.Itoa(i)
		revoke(t, a, jti, SharedYes)
		began := time.Now()
		testkit.Eventually(t, "revoked", func() bool { return knows(b, jti) })
		took := time.Since(began)
		if ok, err := b.Restore(t.Context(), Token(Scope{Provider: "p"}, jti)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		began = time.Now()
		testkit.Eventually(t, "taken back", func() bool { return !knows(a, jti) })
		if counted.n.Load() == before {
			pushed++
			t.Logf("revoked after %s, taken back after %s", took, time.Since(began))
		}
	}
}
