package store

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// A gateway that lacks the key of the entries gets an error from every operation: it must
// not take them for missing, and issue certificates anew.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	c := client(t, redistest.Start(t).Addr())
	_, a, _ := open(t, c, Options{Keys: ring(t, keyA)})
	mustStore(t, a, crt, "first")
	other, b, seen := open(t, c, Options{Keys: ring(t, keyB)})
	_, loadErr := b.Load(t.Context(), crt)
	_, listErr := b.List(t.Context(), "", true)
	_, statErr := b.Stat(t.Context(), crt)
	ok, tryErr := b.TryLock(t.Context(), issueLock)
	for name, err := range map[string]error{
		"load": loadErr, "list": listErr, "stat": statErr, "try": tryErr, "store": b.Store(t.Context(), crt, []byte("x")),
		"delete": b.Delete(t.Context(), crt), "lock": b.Lock(t.Context(), issueLock),
	} {
		if !errors.Is(err, ErrWrongKey) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want the wrong key", name, err)
		}
	}
	if ok || b.Exists(t.Context(), crt) {
		t.Error("a lock, or an entry, that it cannot have")
	}
	if !errors.Is(other.Status().Reason, ErrWrongKey) || !seen.has(WrongKey) {
		t.Errorf("not told: %+v", other.Status())
	}
	// Neither of these answers compares keys.
	if err := other.checkPolicy(t.Context()); err != nil || other.Status().Policy == "" {
		t.Fatalf("the eviction policy: %q, %v", other.Status().Policy, err)
	}
	if !errors.Is(other.Status().Reason, ErrWrongKey) {
		t.Error("looking up the eviction policy makes the storage healthy")
	}
	full := errors.New("OOM command not allowed when used memory > 'maxmemory'.")
	refusal := func(context.Context) error { return redisError{full} }
	short, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := other.do(short, false, "store", refusal); !errors.Is(err, full) {
		t.Fatalf("a refusal: got %v", err)
	}
	if !errors.Is(other.Status().Reason, ErrWrongKey) {
		t.Error("a refusal makes the storage healthy")
	}
	wantValue(t, a, crt, "first")
}

// redisError is an error reply of Redis.
type redisError struct{ error }

func (redisError) RedisError() {}

func (e redisError) Unwrap() error { return e.error }

// The keys change without an entry that nobody can read: the old one goes on reading,
// then everything is encrypted with the new one, and then the old one is not needed.
func TestRotation(t *testing.T) {
	t.Parallel()
	topologies(t, func(t *testing.T, addrs []string) {
		c := client(t, addrs...)
		old, v, _ := open(t, c, Options{Keys: ring(t, keyA)})
		mustStore(t, v, crt, "certificate")
		mustStore(t, v, keyFile, "key")

		_, second, _ := open(t, c, Options{Keys: ring(t, keyA, keyB)})
		wantValue(t, second, crt, "certificate")
		rotating, third, seen := open(t, c, Options{Keys: ring(t, keyB, keyA)})
		wantValue(t, third, crt, "certificate")
		mustStore(t, third, crt, "renewed")
		wantValue(t, second, crt, "renewed")
		if _, err := v.Load(t.Context(), crt); !errors.Is(err, ErrWrongKey) {
			t.Errorf("with the old key alone: got %v", err)
		}
		rotating.Start()
		testkit.Eventually(t, "encrypted with the first key", func() bool { return seen.has(Reencrypted) })

		_, last, _ := open(t, c, Options{Keys: ring(t, keyB)})
		wantValue(t, last, crt, "renewed")
		wantValue(t, last, keyFile, "key")
		if got, err := last.List(t.Context(), "certificates/ca/shop.test", false); err != nil || len(got) != 2 {
			t.Errorf("listed: %v %v", got, err)
		}
		for _, name := range old.names(kindEntry, crt) {
			if n := c.Exists(t.Context(), old.base+name).Val(); n != 0 {
				t.Error("an entry of the old key is left")
			}
		}
	})
}

// What is in Redis names no host and shows no key, whatever holds it.
func TestNothingReadable(t *testing.T) {
	t.Parallel()
	c := client(t, redistest.Start(t).Addr())
	_, v, _ := open(t, c, Options{Prefix: "p"})
	mustStore(t, v, crt, "-----BEGIN CERTIFICATE-----")
	mustLock(t, v, issueLock)
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) < 4 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "p:certificates:{tls}:") {
			t.Errorf("the key %s is on another slot", key)
		}
		dump := c.Dump(t.Context(), key).Val()
		for _, secret := range []string{"shop", "BEGIN", "certificates/", "issue", keyA} {
			if strings.Contains(strings.TrimPrefix(key, "p:certificates:")+dump, secret) {
				t.Errorf("%q is readable under %s", secret, key)
			}
		}
	}
}

// Somebody who can write to Redis can neither move a value to another name nor change
// one.
func TestTampering(t *testing.T) {
	t.Parallel()
	c := client(t, redistest.Start(t).Addr())
	s, v, _ := open(t, c, Options{})
	mustStore(t, v, crt, "shop")
	mustStore(t, v, "certificates/ca/evil.test/evil.test.crt", "evil")
	at := func(key string) string { return s.base + s.names(kindEntry, key)[0] }
	evil := c.HGet(t.Context(), at("certificates/ca/evil.test/evil.test.crt"), "d").Val()
	for name, value := range map[string]string{"moved": evil, "cut": evil[:len(evil)-1], "empty": ""} {
		if err := c.HSet(t.Context(), at(crt), "d", value).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := v.Load(t.Context(), crt); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %q and %v", name, got, err)
		}
	}
}

// A server that refuses writes is reachable, also if the last try runs out of time.
func TestRefusalIsNoOutage(t *testing.T) {
	t.Parallel()
	s, _, seen := open(t, client(t, redistest.Start(t).Addr()), Options{Timeout: 300 * time.Millisecond})
	refused, tries := redisError{errors.New("READONLY You can't write against a read only replica.")}, 0
	err := s.do(t.Context(), false, "store", func(ctx context.Context) error {
		if tries++; tries == 1 {
			return refused
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, refused) || errors.Is(err, ErrUnavailable) {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if s.Status().Reason != nil || seen.has(Unreachable) {
		t.Errorf("told to be unreachable: %+v", s.Status())
	}
}

// While Redis is gone operations fail soon, then at once; nothing is taken for missing,
// and all goes on when it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes")
	_, patient, _ := open(t, client(t, server.Addr()), Options{})
	mustStore(t, patient, crt, "first")
	s, v, seen := open(t, client(t, server.Addr()), Options{Timeout: 300 * time.Millisecond})
	server.Kill()
	for range 3 {
		_, err := v.Load(t.Context(), crt)
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	}
	if !errors.Is(s.Status().Reason, ErrUnavailable) || !seen.has(Unreachable) {
		t.Errorf("not told: %+v", s.Status())
	}
	server.Restart()
	testkit.Eventually(t, "reachable", func() bool {
		return v.Exists(context.Background(), crt) && s.Status().Reason == nil && seen.has(Reachable)
	})
	wantValue(t, patient, crt, "first")
}

// A server that accepts connections and says nothing holds an operation for its own
// time alone.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	_, patient, _ := open(t, client(t, server.Addr()), Options{})
	mustStore(t, patient, crt, "first")
	_, v, _ := open(t, client(t, server.Addr()), Options{Timeout: 200 * time.Millisecond})
	server.Freeze()
	defer server.Thaw()
	if _, err := v.Load(t.Context(), crt); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// What begins to manage certificates waits for Redis; what a handshake waits for does not.
func TestWaitsForRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, v, seen := open(t, client(t, server.Addr()), Options{Timeout: 100 * time.Millisecond})
	server.Kill()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	waiting := s.View(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := waiting.Load(ctx, crt)
		ended <- err
	}()
	testkit.Eventually(t, "waiting", func() bool { return seen.has(Waiting) })
	if _, err := v.Load(t.Context(), crt); !errors.Is(err, ErrUnavailable) {
		t.Errorf("another context: got %v", err)
	}
	server.Restart()
	if err := <-ended; !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("when Redis is back: got %v", err)
	}
	server.Kill()
	go func() { ended <- waiting.Lock(ctx, issueLock) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, ErrUnavailable) {
		t.Errorf("after the end of the configuration: got %v", err)
	}
}

// A certificate that was issued while Redis is gone is written when it is back: it is not
// ordered again.
func TestRedisGoneDuringIssuance(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes")
	_, v, seen := open(t, client(t, server.Addr()), Options{Timeout: 100 * time.Millisecond})
	testkit.Eventually(t, "the lock", func() bool {
		err := v.Lock(t.Context(), issueLock)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	server.Kill()
	ended := make(chan error, 1)
	go func() { ended <- v.Store(context.Background(), crt, []byte("issued")) }()
	testkit.Eventually(t, "waiting", func() bool { return seen.has(Waiting) })
	if err := v.Store(context.Background(), "acme/ca/challenge_tokens/shop.test.json", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("what no lock protects: got %v", err)
	}
	server.Restart()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	_, patient, _ := open(t, client(t, server.Addr()), Options{})
	wantValue(t, patient, crt, "issued")
}

func TestEvictionPolicy(t *testing.T) {
	t.Parallel()
	for policy, evicting := range map[string]bool{"noeviction": false, "volatile-lru": false, "allkeys-lfu": true} {
		s, _, seen := open(t, client(t, redistest.Start(t, "--maxmemory-policy", policy).Addr()), Options{})
		s.Start()
		kind := Kept
		if evicting {
			kind = Evicting
		}
		testkit.Eventually(t, policy, func() bool { return seen.has(kind) })
		if st := s.Status(); st.Policy != policy || st.Evicting != evicting {
			t.Errorf("%s: %+v", policy, st)
		}
	}
	cluster := redistest.StartCluster(t)
	cluster.Servers[1].Client().ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru")
	s, _, seen := open(t, client(t, cluster.Addrs()...), Options{})
	s.Start()
	testkit.Eventually(t, "one node of three evicts", func() bool { return seen.has(Evicting) })
	if !s.Status().Evicting {
		t.Error("not told")
	}
}
