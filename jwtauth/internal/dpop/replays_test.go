package dpop

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/app/availability"
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
		t.Error("nothing is counted as forgotten early")
	}
	if !m.Seen(t.Context(), idOf(10*limit-1), now) {
		t.Error("the last was forgotten")
	}
	m.Seen(t.Context(), idOf(0), now.Add(time.Hour))
}

// Of many at one time, one is accepted.
func TestConcurrentProofIsAcceptedOnce(t *testing.T) {
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

const (
	// longBudget is enough for a Redis that works, however busy the machine is.
	longBudget = 10 * time.Second
	// shortBudget is for requests that wait for a Redis that does not.
	shortBudget = 50 * time.Millisecond
)

// gateway remembers proofs in memory and in the Redis at the address.
func gateway(t *testing.T, addr string, budget time.Duration, observe func(error)) *Shared {
	t.Helper()
	client := redistest.BackgroundClient(t, addr)
	engine := availability.New(availability.Options{Client: client, Prefix: "test", Budget: budget})
	s := NewShared(NewMemory(time.Minute, 100_000), client, engine, "test", observe)
	t.Cleanup(func() { s.Close(); engine.Close() })
	return s
}

func (s *Shared) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unshared)
}

func TestSharedByRedis(t *testing.T) {
	server := redistest.Start(t)
	var bad atomic.Int64
	observe := func(err error) {
		if err != nil {
			bad.Add(1)
		}
	}
	a, b := gateway(t, server.Addr(), longBudget, observe), gateway(t, server.Addr(), longBudget, observe)
	if a.Seen(t.Context(), idOf(1), now) || !b.Seen(t.Context(), idOf(1), now) || !a.Seen(t.Context(), idOf(1), now) {
		t.Error("what one gateway has seen, the other does not know")
	}
	if ttl := server.Client().PTTL(t.Context(), "test:jwt:dpop:01000000000000000000000000000001").Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("the key lives for %v", ttl)
	}
	// A client that has left does not make Redis look unavailable.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if a.Seen(gone, idOf(2), now) || bad.Load() != 0 || !b.Seen(t.Context(), idOf(2), now) {
		t.Error("the proof of a canceled request did not reach Redis")
	}
	// Nor does a request that has waited for Redis before; it waits no longer.
	var spent availability.Budget
	spent.Spend(time.Hour)
	if a.Seen(availability.WithBudget(t.Context(), &spent), idOf(3), now) || bad.Load() != 0 || a.left() != 1 {
		t.Error("the budget of the request was not honored")
	}

	a = gateway(t, server.Addr(), shortBudget, observe)
	server.Freeze()
	for n := range uint64(50) {
		if a.Seen(t.Context(), idOf(100+n), now) || !a.Seen(t.Context(), idOf(100+n), now) {
			t.Error("without Redis, a gateway does not know what it has seen")
		}
	}
	if n := bad.Load(); n != 3 {
		t.Errorf("%d requests waited for a frozen Redis", n)
	}
	server.Thaw()
	testkit.Eventually(t, "the return", func() bool { return a.availability.Partition("").Writable() })
	if a.left() != 0 {
		t.Errorf("Redis is used again, and %d proofs wait for it", a.left())
	}
	for n := range uint64(50) {
		if !b.Seen(t.Context(), idOf(100+n), now) {
			t.Fatalf("proof %d is accepted by another gateway after the outage", n)
		}
	}
	next := uint64(200)
	testkit.Eventually(t, "a proof in the Redis that came back", func() bool {
		next++
		return !a.Seen(t.Context(), idOf(next), now) && a.left() == 0 && b.Seen(t.Context(), idOf(next), now)
	})
	server.Kill()
	if a.Seen(t.Context(), idOf(1_000_000), now) {
		t.Error("a dead Redis refuses")
	}
}

// A gateway that is cut off accepts proofs once; when it has Redis again, the
// others refuse them. How many wait is bounded.
func TestProofsOfAnOutageAreShared(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr())
	a, b := gateway(t, proxy.Addr(), longBudget, func(error) {}), gateway(t, server.Addr(), longBudget, func(error) {})
	proxy.Direct("127.0.0.1:1")
	const n = 2*unsharedBatch + 7
	for i := range uint64(n) {
		if a.Seen(t.Context(), idOf(i), now) {
			t.Fatalf("proof %d is new", i)
		}
	}
	if a.left() != n || a.availability.Up() {
		t.Fatalf("%d wait", a.left())
	}
	proxy.Direct(server.Addr())
	testkit.Eventually(t, "the return", func() bool { return a.availability.Partition("").Writable() })
	for i := range uint64(n) {
		if !b.Seen(t.Context(), idOf(i), now) {
			t.Fatalf("proof %d is accepted by another gateway after the outage", i)
		}
	}
	if ttl := server.Client().PTTL(t.Context(), "test:jwt:dpop:01000000000000000000000000000001").Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("the key lives for %v", ttl)
	}
	server.Kill()
	for i := range uint64(maxUnshared + 100) {
		a.Seen(t.Context(), idOf(1_000_000+i), now)
	}
	if a.left() != maxUnshared {
		t.Errorf("%d wait", a.left())
	}
}
