package deny

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// gateway is a store on the server at an address.
func gateway(t *testing.T, addr string) *Store {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, PoolSize: 4})
	return follower(t, client)
}

func follower(t *testing.T, client redis.UniversalClient) *Store {
	t.Helper()
	s := New(Options{Redis: client, Prefix: "test"})
	s.Raise(1000, time.Hour)
	s.Start()
	t.Cleanup(func() { _ = s.Destruct(); _ = client.Close() })
	return s
}

func fresh(t *testing.T, stores ...*Store) {
	t.Helper()
	for _, s := range stores {
		testkit.Eventually(t, "reading the list", func() bool { return s.Fresh(time.Now()) })
	}
}

func revoke(t *testing.T, s *Store, jti string, want Shared) {
	t.Helper()
	shared, err := s.Revoke(t.Context(), Entry{ID: Token(Scope{Provider: "p"}, jti), Expires: time.Now().Add(time.Hour)})
	if err != nil || shared != want {
		t.Fatalf("%s: %s %v", jti, shared, err)
	}
	if !knows(s, jti) {
		t.Fatalf("%s: not revoked where it was", jti)
	}
}

func knows(s *Store, jti string) bool {
	return s.Revoked(IDsOf("p", "", jti, ""), time.Now(), time.Now())
}

func TestGatewaysShare(t *testing.T) {
	rs := redistest.Start(t)
	proxy := redistest.NewProxy(t, rs.Addr())
	a, b := gateway(t, rs.Addr()), gateway(t, proxy.Addr())
	fresh(t, a, b)
	revoke(t, a, "one", SharedYes)
	testkit.Eventually(t, "one", func() bool { return knows(b, "one") })
	revoke(t, b, "two", SharedYes)
	testkit.Eventually(t, "two", func() bool { return knows(a, "two") })

	// A gateway that comes later reads what was.
	c := gateway(t, rs.Addr())
	testkit.Eventually(t, "both, later", func() bool { return knows(c, "one") && knows(c, "two") })

	if ok, err := b.Restore(t.Context(), Token(Scope{Provider: "p"}, "one")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	testkit.Eventually(t, "restored", func() bool { return !knows(a, "one") && !knows(b, "one") && !knows(c, "one") })

	// What happens while one is cut off comes when it is back.
	proxy.Direct("127.0.0.1:1")
	proxy.Cut()
	revoke(t, a, "three", SharedYes)
	revoke(t, b, "four", SharedPending)
	proxy.Direct(rs.Addr())
	testkit.Eventually(t, "three", func() bool { return knows(b, "three") })
	testkit.Eventually(t, "four", func() bool { return knows(a, "four") && knows(c, "four") })
	if !knows(b, "two") || knows(b, "one") {
		t.Error("the cut changed what was revoked before")
	}

	t.Run("flushed", func(t *testing.T) {
		rs.Flush()
		testkit.Eventually(t, "told again", func() bool {
			n, err := rs.Client().HLen(t.Context(), a.keys[0]).Result()
			return err == nil && n == 3+2
		})
		d := gateway(t, rs.Addr())
		testkit.Eventually(t, "read again", func() bool { return knows(d, "two") && knows(d, "three") && knows(d, "four") })
	})
	t.Run("restarted without data", func(t *testing.T) {
		rs.Kill()
		revoke(t, a, "five", SharedPending)
		rs.Restart()
		rs.Flush()
		d := gateway(t, rs.Addr())
		testkit.Eventually(t, "all", func() bool {
			return knows(d, "two") && knows(d, "three") && knows(d, "four") && knows(d, "five") && knows(b, "five")
		})
	})
}

func TestTrimmedLog(t *testing.T) {
	rs := redistest.Start(t)
	a, b := gateway(t, rs.Addr()), gateway(t, rs.Addr())
	fresh(t, a, b)
	// Changes whose news are gone when the follower asks for them.
	for i := range 20 {
		revoke(t, a, strconv.Itoa(i), SharedYes)
		if i%2 == 0 {
			rs.Client().XTrimMaxLen(t.Context(), a.keys[2], 0)
		}
	}
	for i := range 20 {
		testkit.Eventually(t, strconv.Itoa(i), func() bool { return knows(b, strconv.Itoa(i)) })
	}
}

func TestFullInRedis(t *testing.T) {
	rs := redistest.Start(t)
	a, b := gateway(t, rs.Addr()), gateway(t, rs.Addr())
	fresh(t, a, b)
	for i := range 1000 {
		revoke(t, a, strconv.Itoa(i), SharedYes)
	}
	testkit.Eventually(t, "all", func() bool { return b.Len() == 1000 })
	for _, s := range []*Store{a, b} {
		if _, err := s.Revoke(t.Context(), Entry{ID: ID{1}, Expires: time.Now().Add(time.Hour)}); !errors.Is(err, ErrFull) {
			t.Errorf("got %v", err)
		}
	}
}

// Redis that does not answer makes the list untrustworthy, by the clock.
func TestSilence(t *testing.T) {
	rs := redistest.Start(t)
	var ahead atomic.Int64
	var told atomic.Int64
	client := redis.NewClient(&redis.Options{Addr: rs.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	defer client.Close()
	s := New(Options{
		Redis: client, Prefix: "silence",
		Now:     func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Observe: func(err error) { told.Add(1) },
	})
	s.Raise(10, time.Hour)
	if s.Fresh(s.Now()) {
		t.Error("a list that was never read is trusted")
	}
	s.Start()
	defer func() { _ = s.Destruct() }()
	fresh(t, s)
	revoke(t, s, "x", SharedYes)
	rs.Freeze()
	defer rs.Thaw()
	testkit.Eventually(t, "lost", func() bool { return told.Load() == 1 })
	if ahead.Store(int64(MaxSilence)); s.Fresh(s.Now()) {
		t.Error("a list is trusted that heard nothing for too long")
	}
	if !knows(s, "x") {
		t.Error("what is known is forgotten")
	}
	rs.Thaw()
	testkit.Eventually(t, "found", func() bool { return told.Load() == 2 && s.Fresh(s.Now()) })
}

func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t)
	connect := func() *Store {
		return follower(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), ContextTimeoutEnabled: true}))
	}
	a, b := connect(), connect()
	fresh(t, a, b)
	revoke(t, a, "one", SharedYes)
	testkit.Eventually(t, "one", func() bool { return knows(b, "one") })
}

func TestRevokeWaitsNoLongerThanAsked(t *testing.T) {
	s := New(Options{Redis: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})})
	s.Raise(10, time.Hour)
	if err := s.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Revoke(ctx, Entry{ID: ID{1}, Expires: time.Now().Add(time.Hour)}); err == nil {
		t.Error("it did not say that the change may be lost")
	}
	if _, err := s.Restore(ctx, ID{1}); err == nil {
		t.Error("restored without Redis")
	}
}
