package store

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/pythopus/tentagate/certstore/internal/seal"
	"github.com/pythopus/tentagate/internal/redistest"
)

func TestMain(m *testing.M) {
	// A lock of FileStorage, which is the control, leaves a goroutine that ends 5 s later.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

const (
	keyA = "3f0c9a51e7d24b86a1f05c7be93d6812f4a07716cc58e29b0d41a3fe65b7928c"
	keyB = "a81d64f0375ec29b6e0f417ad5938c2217be6904d3fa85c0129e7b4d6f83a05c"
	keyC = "5be0d7429af1638c04e9b25d71fa83c6d80e174f9b25ac63417fd0e86a92bc35"
)

func ring(t testing.TB, keys ...string) seal.Ring {
	t.Helper()
	r, err := seal.NewRing(keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// client is a client as the module makes it, of a single server or a Cluster.
func client(t testing.TB, addrs ...string) redis.UniversalClient {
	t.Helper()
	c := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: addrs, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DialTimeout: DefaultTimeout, ReadTimeout: DefaultTimeout, PoolSize: 8,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// events are what a store told.
type events struct {
	mu   sync.Mutex
	list []Event
}

func (e *events) add(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if event.Kind != Operation {
		e.list = append(e.list, event)
	}
}

// has reports whether there was an event of the kind.
func (e *events) has(kind Kind) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.list, func(event Event) bool { return event.Kind == kind })
}

// open makes a store, as a process of its own has it.
func open(t testing.TB, c redis.UniversalClient, o Options) (*Store, *View, *events) {
	t.Helper()
	seen := new(events)
	if o.Prefix == "" {
		o.Prefix = strings.NewReplacer("/", "_", " ", "_", "#", "_").Replace(t.Name())
	}
	if o.Keys == nil {
		o.Keys = ring(t, keyA)
	}
	o.Client, o.Observe = c, seen.add
	s := New(o)
	t.Cleanup(s.Close)
	return s, s.View(context.TODO()), seen
}

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("file system (control)", func(t *testing.T) {
		testConformance(t, func(t *testing.T) (a, b conforming) {
			dir := t.TempDir()
			return &certmagic.FileStorage{Path: dir}, &certmagic.FileStorage{Path: dir}
		})
	})
	two := func(addrs []string, keys ...string) opener {
		return func(t *testing.T) (a, b conforming) {
			_, x, _ := open(t, client(t, addrs...), Options{Keys: ring(t, keys...)})
			_, y, _ := open(t, client(t, addrs...), Options{Keys: ring(t, keys...)})
			return x, y
		}
	}
	server := []string{redistest.Start(t).Addr()}
	t.Run("single server", func(t *testing.T) { testConformance(t, two(server, keyA)) })
	t.Run("during a rotation", func(t *testing.T) { testConformance(t, two(server, keyB, keyA)) })
	t.Run("cluster", func(t *testing.T) { testConformance(t, two(redistest.StartCluster(t).Addrs(), keyA)) })
}
