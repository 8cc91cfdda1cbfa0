package store

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
)

const (
	issueLock = "issue_cert_shop.test"
	crt       = "certificates/ca/shop.test/shop.test.crt"
	keyFile   = "certificates/ca/shop.test/shop.test.key"
)

// suspend stops the heartbeat of a lock, as a pause of its process does.
func suspend(t *testing.T, s *Store, name string) {
	t.Helper()
	h := s.heldAs(name)
	if h == nil {
		t.Fatalf("%s is not held", name)
	}
	h.stop()
	<-h.done
}

// expire ends the lease of a lock in Redis, as time does.
func expire(t *testing.T, c redis.UniversalClient, s *Store, name string) {
	t.Helper()
	for _, key := range s.names(kindLock, name) {
		if err := c.Del(context.Background(), s.base+key).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func mustLock(t *testing.T, v *View, name string) {
	t.Helper()
	if err := v.Lock(context.Background(), name); err != nil {
		t.Fatal(err)
	}
}

func mustStore(t *testing.T, v *View, key, value string) {
	t.Helper()
	if err := v.Store(context.Background(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, v *View, key, want string) {
	t.Helper()
	if got, err := v.Load(context.Background(), key); err != nil || string(got) != want {
		t.Errorf("%s: got %q and %v, want %q", key, got, err, want)
	}
}

// topologies runs a test on a single server and on a Cluster of three nodes.
func topologies(t *testing.T, test func(t *testing.T, addrs []string)) {
	t.Helper()
	t.Run("single server", func(t *testing.T) { test(t, []string{redistest.Start(t).Addr()}) })
	t.Run("cluster", func(t *testing.T) { test(t, redistest.StartCluster(t).Addrs()) })
}

// A holder that was paused can neither write nor delete what its lock protects once
// another has taken the lock, whether that one still has it or not.
func TestFencing(t *testing.T) {
	t.Parallel()
	topologies(t, func(t *testing.T, addrs []string) {
		c := client(t, addrs...)
		first, a, seen := open(t, c, Options{})
		_, b, _ := open(t, client(t, addrs...), Options{})
		mustLock(t, a, issueLock)
		mustStore(t, a, keyFile, "first")
		suspend(t, first, issueLock)
		expire(t, c, first, issueLock)
		mustLock(t, b, issueLock)

		refused := func(when string) {
			t.Helper()
			for _, key := range []string{crt, keyFile} {
				if err := a.Store(context.Background(), key, []byte("late")); !errors.Is(err, ErrFenced) {
					t.Errorf("%s: a late write of %s: got %v", when, key, err)
				}
				if err := a.Delete(context.Background(), key); !errors.Is(err, ErrFenced) {
					t.Errorf("%s: a late deletion of %s: got %v", when, key, err)
				}
			}
			if err := a.Delete(context.Background(), "certificates/ca/shop.test"); !errors.Is(err, ErrFenced) {
				t.Errorf("%s: a late deletion of the directory: got %v", when, err)
			}
		}
		mustStore(t, b, keyFile, "second")
		mustStore(t, b, crt, "second")
		refused("the successor has the lock")
		if err := b.Unlock(context.Background(), issueLock); err != nil {
			t.Fatal(err)
		}
		refused("the successor is done")
		wantValue(t, b, crt, "second")
		wantValue(t, b, keyFile, "second")
		if !seen.has(LockLost) || !seen.has(Fenced) {
			t.Errorf("not told: %+v", seen.list)
		}
		// What no lock protects is not the lock's business.
		mustStore(t, a, "acme/ca/challenge_tokens/shop.test.json", "x")
		mustStore(t, a, "certificates/ca/other.test/other.test.crt", "x")
		if err := a.Unlock(context.Background(), issueLock); err != nil {
			t.Error(err)
		}
		mustLock(t, a, issueLock)
		mustStore(t, a, crt, "third")
		wantValue(t, b, crt, "third")
	})
}

// A holder that was cut off for longer than its lease renews it before it writes. It
// still cannot change what another wrote in between, until it has taken the lock again.
func TestFencingAfterRenewal(t *testing.T) {
	t.Parallel()
	topologies(t, func(t *testing.T, addrs []string) {
		c := client(t, addrs...)
		first, a, seen := open(t, c, Options{})
		_, b, _ := open(t, client(t, addrs...), Options{})
		mustLock(t, a, issueLock)
		suspend(t, first, issueLock)
		expire(t, c, first, issueLock)
		mustLock(t, b, issueLock)
		mustStore(t, b, crt, "second")
		if err := b.Unlock(t.Context(), issueLock); err != nil {
			t.Fatal(err)
		}
		// The first heartbeat after the connection is back.
		if err := first.confirm(t.Context(), false, first.heldAs(issueLock)); err != nil {
			t.Fatal(err)
		}
		if err := a.Store(t.Context(), crt, []byte("late")); !errors.Is(err, ErrFenced) {
			t.Errorf("a late write: got %v", err)
		}
		if err := a.Delete(t.Context(), crt); !errors.Is(err, ErrFenced) {
			t.Errorf("a late deletion: got %v", err)
		}
		wantValue(t, b, crt, "second")
		if !seen.has(LockLost) || !seen.has(Fenced) {
			t.Errorf("not told: %+v", seen.list)
		}
		if err := a.RenewLockLease(t.Context(), issueLock, time.Hour); err != nil {
			t.Fatal(err)
		}
		mustStore(t, a, crt, "third")
		wantValue(t, b, crt, "third")
	})
}

// A lease that ended is no harm while nobody has taken the lock: the work goes on,
// and others wait again.
func TestLeaseEnded(t *testing.T) {
	t.Parallel()
	c := client(t, redistest.Start(t).Addr())
	first, a, _ := open(t, c, Options{})
	_, b, _ := open(t, c, Options{})
	mustLock(t, a, issueLock)
	suspend(t, first, issueLock)
	expire(t, c, first, issueLock)
	mustStore(t, a, crt, "first")
	if ok, err := b.TryLock(context.Background(), issueLock); ok || err != nil {
		t.Errorf("the lock is another's: %v %v", ok, err)
	}
	expire(t, c, first, issueLock)
	if err := a.RenewLockLease(context.Background(), issueLock, time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, key := range first.names(kindLock, issueLock) {
		if left := c.PTTL(context.Background(), first.base+key).Val(); left <= 0 || left > DefaultLease {
			t.Errorf("the lease lasts %s: it must stay short, whatever is asked for", left)
		}
	}
}

// A lease is renewed while its holder lives, and a lock that was lost is taken again
// when its work is tried again.
func TestRenewal(t *testing.T) {
	t.Parallel()
	c := client(t, redistest.Start(t).Addr())
	first, a, _ := open(t, c, Options{Lease: 1500 * time.Millisecond})
	second, b, _ := open(t, c, Options{Lease: 1500 * time.Millisecond})
	mustLock(t, a, issueLock)
	short, cancel := context.WithTimeout(context.Background(), 3*time.Second) // two leases
	defer cancel()
	if err := b.Lock(short, issueLock); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the lock of a living holder: got %v", err)
	}
	// The holder dies: nothing is renewed.
	suspend(t, first, issueLock)
	mustLock(t, b, issueLock)
	if err := a.RenewLockLease(context.Background(), issueLock, time.Second); !errors.Is(err, ErrFenced) {
		t.Errorf("the lock is another's: got %v", err)
	}
	if err := b.Unlock(context.Background(), issueLock); err != nil {
		t.Fatal(err)
	}
	if err := a.RenewLockLease(context.Background(), issueLock, time.Second); err != nil {
		t.Errorf("the lock is free again: got %v", err)
	}
	mustStore(t, a, crt, "again")
	if err := a.RenewLockLease(context.Background(), "issue_cert_never.test", time.Second); !errors.Is(err, ErrNotHeld) {
		t.Errorf("a lock that was never taken: got %v", err)
	}
	if n := second.Status().Locks; n != 0 {
		t.Errorf("%d locks are held after the last was given up", n)
	}
}

// A lock keeps its store open, and closing it ends what runs in the background.
func TestRetain(t *testing.T) {
	t.Parallel()
	c := client(t, redistest.Start(t).Addr())
	retained := 0
	_, a, _ := open(t, c, Options{Retain: func() func() {
		retained++
		return func() { retained-- }
	}})
	mustLock(t, a, issueLock)
	if retained != 1 {
		t.Errorf("retained %d times", retained)
	}
	if err := a.Unlock(context.Background(), issueLock); err != nil || retained != 0 {
		t.Errorf("after unlocking: retained %d times, %v", retained, err)
	}
}

func TestGuards(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		lock, key string
		want      bool
	}{
		{issueLock, crt, true},
		{issueLock, "certificates/ca/shop.test.example/shop.test.example.crt", false},
		{issueLock, "ocsp/shop.test-abc", false},
		{"issue_cert_*.shop.test", "certificates/ca/wildcard_.shop.test/wildcard_.shop.test.key", true},
		{"register_acme_account", "acme/ca/users/default/default.json", true},
		{"register_acme_account_me@shop.test", "acme/ca/users/me@shop.test/me.key", true},
		{"register_acme_account_me@shop.test", "acme/ca/users/default/default.json", false},
		{"storage_clean", crt, false},
	} {
		if got := guards(tc.lock, tc.key); got != tc.want {
			t.Errorf("%s protects %s: got %v", tc.lock, tc.key, got)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	_, v, _ := open(t, client(t, "127.0.0.1:1"), Options{})
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/./b", "a\\b", "a\x00b", "a\xff"} {
		if err := v.Store(context.Background(), key, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: got %v", key, err)
		}
	}
	if err := v.Lock(context.Background(), ""); err == nil {
		t.Error("a lock without a name")
	}
}
