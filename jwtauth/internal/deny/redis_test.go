package deny

import (
	"context"
	"errors"
	"fmt"
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
	t.Cleanup(func() { s.Close(); _ = client.Close() })
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
		testkit.Eventually(t, "written again", func() bool {
			// The log has three fields of its own.
			n, err := rs.Client().HLen(t.Context(), "test:{jwt_deny}:entries").Result()
			return err == nil && n == 3+3
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
			rs.Client().ZRemRangeByRank(t.Context(), "test:{jwt_deny}:positions", 0, -1)
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
func TestRedisUnreachable(t *testing.T) {
	rs := redistest.Start(t)
	var ahead atomic.Int64
	var observed atomic.Int64
	client := redis.NewClient(&redis.Options{Addr: rs.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	defer client.Close()
	s := New(Options{
		Redis: client, Prefix: "silence",
		Now:     func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Observe: func(err error) { observed.Add(1) },
	})
	s.Raise(10, time.Hour)
	if s.Fresh(s.Now()) {
		t.Error("a list that was never read is trusted")
	}
	s.Start()
	defer s.Close()
	fresh(t, s)
	revoke(t, s, "x", SharedYes)
	rs.Freeze()
	defer rs.Thaw()
	testkit.Eventually(t, "lost", func() bool { return observed.Load() == 1 })
	if ahead.Store(int64(maxSilence)); s.Fresh(s.Now()) {
		t.Error("a list without contact to Redis is trusted for too long")
	}
	if !knows(s, "x") {
		t.Error("what is known is forgotten")
	}
	rs.Thaw()
	testkit.Eventually(t, "found", func() bool { return observed.Load() == 2 && s.Fresh(s.Now()) })
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
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	s := New(Options{Redis: client})
	s.Raise(10, time.Hour)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if shared, err := s.Revoke(ctx, Entry{ID: ID{1}, Expires: time.Now().Add(time.Hour)}); shared != SharedPending || err != nil {
		t.Errorf("%s %v", shared, err)
	}
	if _, err := s.Restore(ctx, ID{1}); err == nil || !s.has(ID{1}) {
		t.Error("restored without Redis")
	}
}

// What an older version of TentaGate wrote, which knew no positions, is revoked.
func TestEntriesOfAnOlderVersion(t *testing.T) {
	rs := redistest.Start(t)
	id := Token(Scope{Provider: "p"}, "old").String()
	expires := time.Now().Add(time.Hour).UnixMilli()
	rs.Client().HSet(t.Context(), "test:{jwt_deny}:entries", "epoch", "x", "seq", "1", id, fmt.Sprint("0 ", expires))
	a := gateway(t, rs.Addr())
	fresh(t, a)
	if !knows(a, "old") {
		t.Error("it is accepted")
	}
	// And the other way round: the older version reads the entries.
	revoke(t, a, "new", SharedYes)
	got := rs.Client().HGet(t.Context(), "test:{jwt_deny}:entries", Token(Scope{Provider: "p"}, "new").String()).Val()
	var before, until int64
	if n, err := fmt.Sscanf(got, "%d %d", &before, &until); n != 2 || err != nil || before != 0 || until < expires {
		t.Errorf("got %q", got)
	}
}
