package redis

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

func anyVariant([]string, string) bool { return true }

func anyEntry(*object.Entry) bool { return true }

// Of many gateways that want the same key one asks the origin; the others get
// its answer.
func TestLease(t *testing.T) {
	server := redistest.Start(t)
	key := object.NewKey("k")
	var asked, got atomic.Int32
	var wg, tried sync.WaitGroup
	tried.Add(5)
	for range 5 {
		s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
		wg.Go(func() {
			ctx := context.Background()
			free, granted := s.Lease(ctx, key, time.Minute)
			tried.Done()
			if !granted {
				if e := s.Await(ctx, key, anyVariant, anyEntry); e != nil && string(e.Variants[0].Body) == "answer" {
					got.Add(1)
				}
				return
			}
			asked.Add(1)
			tried.Wait() // a later request would find no lease
			s.Set(key, fresh([]byte("answer")))
			free()
		})
	}
	wg.Wait()
	if asked.Load() != 1 || got.Load() != 4 {
		t.Errorf("%d asked, %d got the answer", asked.Load(), got.Load())
	}
}

func TestLeaseEnds(t *testing.T) {
	server := redistest.Start(t)
	a := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	b := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	ctx := context.Background()
	key := object.NewKey("k")

	// Nothing was stored: those who wait go on when the lease ends.
	free, granted := a.Lease(ctx, key, time.Minute)
	if !granted {
		t.Fatal("not granted")
	}
	if _, granted := b.Lease(ctx, key, time.Minute); granted {
		t.Fatal("granted twice")
	}
	free()
	if e := b.Await(ctx, key, anyVariant, anyEntry); e != nil {
		t.Errorf("got %v", e)
	}
	freeB, granted := b.Lease(ctx, key, time.Minute)
	if !granted {
		t.Fatal("not granted after its end")
	}
	// The first holder's release, come late, does not end the second's.
	before := a.Stats().Writes
	free()
	put(t, a, object.NewKey("other"), fresh(nil)) // some time passes
	testkit.Eventually(t, "a write", func() bool { return a.Stats().Writes > before })
	testkit.Eventually(t, "the queue", func() bool { return len(a.queues[key.Hash[0]%writers]) == 0 })
	if _, granted := a.Lease(ctx, key, time.Minute); granted {
		t.Error("another's lease was ended")
	}
	freeB()

	// The holder is gone: its lease ends by itself.
	lost := object.NewKey("lost")
	if _, granted := a.Lease(ctx, lost, 50*time.Millisecond); !granted {
		t.Fatal("not granted")
	}
	if e := b.Await(ctx, lost, anyVariant, anyEntry); e != nil {
		t.Errorf("got %v", e)
	}

	// An entry that cannot be used is not returned.
	old := object.NewKey("old")
	put(t, a, old, fresh([]byte("old")))
	free, _ = a.Lease(ctx, old, time.Minute)
	seen := 0
	e := b.Await(ctx, old, anyVariant, func(e *object.Entry) bool {
		if seen++; seen == 2 {
			a.Set(old, fresh([]byte("new")))
			free()
		}
		return string(e.Variants[0].Body) == "new"
	})
	if e == nil {
		t.Error("the new entry is not found")
	}

	gone, cancel := context.WithCancel(ctx)
	cancel()
	if e := b.Await(gone, key, anyVariant, anyEntry); e != nil {
		t.Errorf("got %v", e)
	}
}

func TestLeaseWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr()), Budget: availability.DefaultBudget})
	server.Freeze()
	for range 6 {
		free, granted := s.Lease(context.Background(), object.NewKey("k"), time.Minute)
		if !granted {
			t.Error("no gateway may ask the origin")
		}
		free()
	}
	if e := s.Await(context.Background(), object.NewKey("k"), anyVariant, anyEntry); e != nil {
		t.Errorf("got %v", e)
	}
	server.Thaw()
}

// A lease that Redis granted too late is given back as well: nobody waits for it.
func TestLateLeaseEnds(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr()), Budget: availability.DefaultBudget})
	key := object.NewKey("k")
	held := func() bool {
		n, err := server.Client().Exists(context.Background(), s.key(key, "l")).Result()
		return err == nil && n == 1
	}
	var frees []func()
	testkit.Eventually(t, "a lease that is granted late", func() bool {
		server.Freeze()
		free, _ := s.Lease(context.Background(), key, 5*time.Minute)
		server.Thaw()
		frees = append(frees, free) // which of them holds it is not known
		return held()
	})
	testkit.Eventually(t, "its end", func() bool {
		for _, free := range frees {
			free()
		}
		return !held()
	})
}
