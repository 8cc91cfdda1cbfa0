package dpop

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

func idOf(n uint64) (id ID) {
	binary.BigEndian.PutUint64(id[8:], n)
	id[0] = byte(n)
	return id
}

// Against a list of all that was seen and when: within its life nothing is
// forgotten, after thrice that everything is.
func TestMemoryRemembers(t *testing.T) {
	const life = time.Minute
	random := rand.New(rand.NewPCG(1, 2))
	m := NewMemory(life, 1<<20)
	at, seen := now, map[uint64]time.Time{}
	for range 200_000 {
		at = at.Add(time.Duration(random.Int64N(int64(20 * time.Millisecond))))
		if random.IntN(20_000) == 0 {
			at = at.Add(time.Duration(random.Int64N(int64(3 * life))))
		}
		n := random.Uint64N(5000)
		got := m.Seen(t.Context(), idOf(n), at)
		last, before := seen[n]
		switch {
		case before && at.Sub(last) < life && !got:
			t.Fatalf("forgotten after %v", at.Sub(last))
		case (!before || at.Sub(last) > 3*life) && got:
			t.Fatalf("remembered what was never seen, or %v ago", at.Sub(last))
		}
		if !got {
			seen[n] = at
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	const limit = 10_000
	m := NewMemory(time.Minute, limit)
	early := ForgottenEarly()
	for n := range uint64(10 * limit) {
		m.Seen(t.Context(), idOf(n), now)
		if n%1000 == 0 && m.Len() > 2*limit {
			t.Fatalf("%d are remembered", m.Len())
		}
	}
	if ForgottenEarly() == early {
		t.Error("nothing is told to be forgotten")
	}
	if !m.Seen(t.Context(), idOf(10*limit-1), now) {
		t.Error("the last was forgotten")
	}
	m.Seen(t.Context(), idOf(0), now.Add(time.Hour))
}

// Of many at one time, one is accepted.
func TestOneOfMany(t *testing.T) {
	m := NewMemory(time.Minute, 1000)
	for n := range uint64(100) {
		var accepted atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if !m.Seen(t.Context(), idOf(n), now) {
					accepted.Add(1)
				}
			})
		}
		all.Wait()
		if accepted.Load() != 1 {
			t.Fatalf("%d were accepted", accepted.Load())
		}
	}
}

func TestSharedByRedis(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	server := redistest.Start(t)
	var good, bad atomic.Int64
	gateway := func() *Shared {
		client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true, DialTimeout: 250 * time.Millisecond})
		t.Cleanup(func() { _ = client.Close() })
		s := NewShared(NewMemory(time.Minute, 1000), client, "test", func(err error) {
			if err != nil {
				bad.Add(1)
				return
			}
			good.Add(1)
		})
		t.Cleanup(s.Close)
		return s
	}
	a, b := gateway(), gateway()
	if a.Seen(t.Context(), idOf(1), now) || !b.Seen(t.Context(), idOf(1), now) || !a.Seen(t.Context(), idOf(1), now) {
		t.Error("what one gateway has seen, the other does not know")
	}
	if ttl := server.Client().PTTL(t.Context(), "test:jwt:dpop:01000000000000000000000000000001").Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("the key lives for %v", ttl)
	}
	// A client that has left does not make Redis look ill.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if a.Seen(gone, idOf(2), now) || bad.Load() != 0 || !b.Seen(t.Context(), idOf(2), now) {
		t.Error("a cancelled request was not told to redis")
	}

	server.Freeze()
	for n := range uint64(50) {
		if a.Seen(t.Context(), idOf(100+n), now) || !a.Seen(t.Context(), idOf(100+n), now) {
			t.Error("without redis, a gateway does not know what it has seen")
		}
	}
	if bad.Load() != 1 {
		t.Errorf("%d requests waited for a frozen redis within a second", bad.Load())
	}
	later := now.Add(2 * pause)
	a.Seen(t.Context(), idOf(200), later)
	if bad.Load() != 2 {
		t.Errorf("after the pause, %d have asked", bad.Load())
	}
	server.Thaw()
	if later = later.Add(2 * pause); a.Seen(t.Context(), idOf(201), later) || !b.Seen(t.Context(), idOf(201), later) {
		t.Error("redis came back, and is not used")
	}
	server.Kill()
	if a.Seen(t.Context(), idOf(300), later) {
		t.Error("a dead redis refuses")
	}
}

// Proofs that a gateway accepted while it had no Redis are refused by the others
// as soon as it has.
func TestProofsOfAnOutageAreShared(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr())
	gateway := func(addr string) *Shared {
		client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true, DialTimeout: 250 * time.Millisecond})
		t.Cleanup(func() { _ = client.Close() })
		s := NewShared(NewMemory(time.Minute, 100_000), client, "test", func(error) {})
		t.Cleanup(s.Close)
		return s
	}
	a, b := gateway(proxy.Addr()), gateway(server.Addr())
	proxy.Direct("127.0.0.1:1")
	const n = 2*unsharedBatch + 7
	for i := range uint64(n) {
		if a.Seen(t.Context(), idOf(i), now) {
			t.Fatalf("proof %d is new", i)
		}
	}
	proxy.Direct(server.Addr())
	testkit.Eventually(t, "sharing", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.unshared) == 0 && !a.sharing
	})
	for i := range uint64(n) {
		if !b.Seen(t.Context(), idOf(i), now) {
			t.Fatalf("proof %d is accepted by another gateway after the outage", i)
		}
	}
	if ttl := server.Client().PTTL(t.Context(), "test:jwt:dpop:01000000000000000000000000000001").Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("the key lives for %v", ttl)
	}
	// What is more than can wait is bounded.
	server.Kill()
	for i := range uint64(maxUnshared + 100) {
		a.Seen(t.Context(), idOf(1_000_000+i), now)
	}
	a.mu.Lock()
	waiting := len(a.unshared)
	a.mu.Unlock()
	if waiting != maxUnshared {
		t.Errorf("%d wait", waiting)
	}
}
