package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// This file is a conformance suite for certmagic's storage interfaces: what their
// comments ask for, and what certmagic and Caddy rely on. It runs over certmagic's own
// FileStorage too, as the control.

// conforming is what a storage must implement.
type conforming interface {
	certmagic.Storage
	certmagic.TryLocker
}

// opener returns the same storage, empty at first, as two processes use it.
type opener func(t *testing.T) (a, b conforming)

// testConformance runs the suite.
func testConformance(t *testing.T, open opener) {
	for _, group := range []map[string]func(*testing.T, conforming, conforming){entryTests, directoryTests, lockTests} {
		for name, test := range group {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				a, b := open(t)
				test(t, a, b)
			})
		}
	}
}

// put stores entries whose values are their keys.
func put(t *testing.T, s conforming, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := s.Store(t.Context(), key, []byte(key)); err != nil {
			t.Fatalf("storing %s: %v", key, err)
		}
	}
}

func wantStored(t *testing.T, s conforming, key, want string) {
	t.Helper()
	if got, err := s.Load(t.Context(), key); err != nil || string(got) != want {
		t.Errorf("loading %s: got %q and %v, want %q", key, got, err, want)
	}
	if !s.Exists(t.Context(), key) {
		t.Errorf("%s does not exist", key)
	}
}

func wantMissing(t *testing.T, s conforming, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if got, err := s.Load(t.Context(), key); !errors.Is(err, fs.ErrNotExist) || len(got) > 0 {
			t.Errorf("loading %s: got %q and %v, want fs.ErrNotExist", key, got, err)
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: got %v, want fs.ErrNotExist", key, err)
		}
		if s.Exists(t.Context(), key) {
			t.Errorf("%s exists", key)
		}
	}
}

func wantListed(t *testing.T, s conforming, key string, recursive bool, want ...string) {
	t.Helper()
	got, err := s.List(t.Context(), key, recursive)
	slices.Sort(got)
	slices.Sort(want)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("listing %q (recursive: %v): got %q and %v, want %q", key, recursive, got, err, want)
	}
}

// siteKeys are the entries of a certificate.
var siteKeys = []string{
	"certificates/acme-v02/example.com/example.com.crt",
	"certificates/acme-v02/example.com/example.com.json",
	"certificates/acme-v02/example.com/example.com.key",
}

var entryTests = map[string]func(*testing.T, conforming, conforming){
	"what one stores the other loads": func(t *testing.T, a, b conforming) {
		put(t, a, siteKeys...)
		for _, key := range siteKeys {
			wantStored(t, b, key, key)
		}
	},
	"a value is replaced": func(t *testing.T, a, b conforming) {
		put(t, a, "a/b")
		for _, value := range []string{"longer than before", "", "x"} {
			if err := b.Store(t.Context(), "a/b", []byte(value)); err != nil {
				t.Fatal(err)
			}
			wantStored(t, a, "a/b", value)
		}
	},
	"values are bytes": func(t *testing.T, a, b conforming) {
		value := bytes.Repeat([]byte{0, '\r', '\n', 0xff, 0xfe, '\''}, 50_000)
		if err := a.Store(t.Context(), "bytes", value); err != nil {
			t.Fatal(err)
		}
		wantStored(t, b, "bytes", string(value))
	},
	"a missing key is fs.ErrNotExist": func(t *testing.T, a, _ conforming) {
		wantMissing(t, a, "no", "no/such/key")
		put(t, a, "a/b")
		wantMissing(t, a, "a/c", "a/bc", "b")
	},
	"stat": func(t *testing.T, a, b conforming) {
		before := time.Now().Add(-2 * time.Second)
		put(t, a, "a/b")
		info, err := b.Stat(t.Context(), "a/b")
		if err != nil || info.Key != "a/b" || !info.IsTerminal || info.Size != 3 {
			t.Errorf("got %+v and %v", info, err)
		}
		if info.Modified.Before(before) || info.Modified.After(time.Now().Add(time.Second)) {
			t.Errorf("modified at %s", info.Modified)
		}
		if info, err := b.Stat(t.Context(), "a"); err != nil || info.Key != "a" || info.IsTerminal {
			t.Errorf("directory: got %+v and %v", info, err)
		}
	},
	"delete": func(t *testing.T, a, b conforming) {
		put(t, a, "a/b", "a/c")
		for range 2 { // a key that is gone may be deleted
			if err := b.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
		}
		wantMissing(t, a, "a/b")
		wantStored(t, a, "a/c", "a/c")
	},
	"names that certmagic makes": func(t *testing.T, a, b conforming) {
		keys := []string{
			"certificates/ca/wildcard_.example.com/wildcard_.example.com.crt", "acme/ca/users/me@example.com/me.key",
			"acme/127.0.0.1-14000-dir/challenge_tokens/127.0.0.1.json", "last_clean.json", "rw_test_123", "pki/authorities/local/root.crt",
			"ech/configs/1/key.bin", "certificates/ca/bücher.example/x", "a b/c{d}[e]*?", strings.Repeat("n", 200) + "/x",
		}
		put(t, a, keys...)
		for _, key := range keys {
			wantStored(t, b, key, key)
		}
	},
	"concurrent writes leave one of the values": func(t *testing.T, a, b conforming) {
		var writers sync.WaitGroup
		values := map[string]bool{}
		for i := range 8 {
			value := strings.Repeat(fmt.Sprint(i), 10_000)
			values[value] = true
			writers.Go(func() {
				if err := []conforming{a, b}[i%2].Store(context.Background(), "x/y", []byte(value)); err != nil {
					t.Error(err)
				}
			})
		}
		writers.Wait()
		if got, err := a.Load(t.Context(), "x/y"); err != nil || !values[string(got)] {
			t.Errorf("got %d bytes and %v", len(got), err)
		}
		wantListed(t, b, "x", true, "x/y")
	},
}

var directoryTests = map[string]func(*testing.T, conforming, conforming){
	"list": func(t *testing.T, a, b conforming) {
		put(t, a, "a/b/c", "a/b/d", "a/e", "a/f/g/h", "ab/c")
		wantListed(t, b, "a", false, "a/b", "a/e", "a/f")
		wantListed(t, b, "a/b", false, "a/b/c", "a/b/d")
		wantListed(t, b, "a", true, "a/b", "a/b/c", "a/b/d", "a/e", "a/f", "a/f/g", "a/f/g/h")
		wantListed(t, b, "a/f", true, "a/f/g", "a/f/g/h")
	},
	"list of the root": func(t *testing.T, a, b conforming) {
		put(t, a, "a/b", "c")
		wantListed(t, b, "", false, "a", "c")
		wantListed(t, b, "", true, "a", "a/b", "c")
	},
	"list of a missing directory": func(t *testing.T, a, _ conforming) {
		put(t, a, "a/b")
		for _, recursive := range []bool{false, true} {
			if got, err := a.List(t.Context(), "b", recursive); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %q and %v, want fs.ErrNotExist", got, err)
			}
		}
	},
	"list of an entry is empty": func(t *testing.T, a, _ conforming) {
		put(t, a, "a/b")
		wantListed(t, a, "a/b", false)
		wantListed(t, a, "a/b", true)
	},
	"a prefix is one of components": func(t *testing.T, a, b conforming) {
		put(t, a, "a/b", "ab/c", "abc")
		wantListed(t, b, "a", true, "a/b")
		wantMissing(t, b, "b", "a/bc")
		if err := b.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		wantMissing(t, a, "a/b")
		wantStored(t, a, "ab/c", "ab/c")
		wantStored(t, a, "abc", "abc")
	},
	"a directory exists": func(t *testing.T, a, b conforming) {
		put(t, a, "a/b/c")
		if !b.Exists(t.Context(), "a") || !b.Exists(t.Context(), "a/b") {
			t.Error("it does not")
		}
		if got, err := b.Load(t.Context(), "a/b"); err == nil {
			t.Errorf("it is loaded: %q", got)
		}
	},
	"deleting a directory deletes all below it": func(t *testing.T, a, b conforming) {
		put(t, a, "a/b/c", "a/b/d/e", "a/b/d/f/g", "a/x")
		if err := b.Delete(t.Context(), "a/b"); err != nil {
			t.Fatal(err)
		}
		wantMissing(t, a, "a/b", "a/b/c", "a/b/d", "a/b/d/e", "a/b/d/f/g")
		wantListed(t, a, "a", true, "a/x")
	},
	"a site is cleaned up as certmagic does": func(t *testing.T, a, b conforming) {
		put(t, a, siteKeys...)
		for _, key := range append(slices.Clone(siteKeys), "certificates/acme-v02/example.com") {
			if err := b.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		wantMissing(t, a, "certificates/acme-v02/example.com")
		put(t, b, siteKeys...)
		wantListed(t, a, "certificates/acme-v02/example.com", false, siteKeys...)
	},
}

var lockTests = map[string]func(*testing.T, conforming, conforming){
	"a lock excludes": func(t *testing.T, a, b conforming) {
		// Atomic, as a lock in the file system orders nothing for the race detector.
		var inside, total atomic.Int32
		var workers sync.WaitGroup
		for i := range 6 {
			workers.Go(func() {
				s := []conforming{a, b}[i%2]
				if err := s.Lock(context.Background(), "work"); err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				total.Add(1)
				inside.Add(-1)
				if err := s.Unlock(context.Background(), "work"); err != nil {
					t.Error(err)
				}
			})
		}
		workers.Wait()
		if n := total.Load(); n != 6 {
			t.Errorf("%d of 6 had the lock", n)
		}
	},
	"locks of different names are independent": func(t *testing.T, a, b conforming) {
		for _, name := range []string{"issue_cert_example.com", "issue_cert_example.net", "issue_cert_*.example.com", "ari_abc.def", "storage_clean"} {
			if err := a.Lock(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := a.Unlock(context.Background(), name); err != nil {
					t.Errorf("unlocking %s: %v", name, err)
				}
			}()
		}
		if ok, err := b.TryLock(t.Context(), "issue_cert_example.org"); !ok || err != nil {
			t.Errorf("got %v and %v", ok, err)
		}
		_ = b.Unlock(t.Context(), "issue_cert_example.org")
	},
	"trying does not wait": func(t *testing.T, a, b conforming) {
		if ok, err := a.TryLock(t.Context(), "x"); !ok || err != nil {
			t.Fatalf("free: got %v and %v", ok, err)
		}
		for _, s := range []conforming{a, b} {
			if ok, err := s.TryLock(t.Context(), "x"); ok || err != nil {
				t.Errorf("held: got %v and %v", ok, err)
			}
		}
		if err := a.Unlock(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if ok, err := b.TryLock(t.Context(), "x"); !ok || err != nil {
			t.Errorf("given up: got %v and %v", ok, err)
		}
		_ = b.Unlock(t.Context(), "x")
	},
	"waiting ends with the context": func(t *testing.T, a, b conforming) {
		if err := a.Lock(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Lock(ctx, "x") }()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := a.Unlock(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if ok, err := b.TryLock(t.Context(), "x"); !ok || err != nil {
			t.Errorf("who gave up has it: got %v and %v", ok, err)
		}
		_ = b.Unlock(t.Context(), "x")
	},
	"unlocking what is not held is an error": func(t *testing.T, a, _ conforming) {
		if err := a.Unlock(t.Context(), "x"); err == nil {
			t.Error("there was none")
		}
	},
	"locks are no entries": func(t *testing.T, a, b conforming) {
		put(t, a, "a/b")
		if err := a.Lock(t.Context(), "a/b"); err != nil {
			t.Fatal(err)
		}
		wantStored(t, b, "a/b", "a/b")
		if err := b.Delete(t.Context(), "a/b"); err != nil {
			t.Fatal(err)
		}
		if ok, err := b.TryLock(t.Context(), "a/b"); ok || err != nil {
			t.Errorf("the lock went with the entry: %v", err)
		}
		if err := a.Unlock(t.Context(), "a/b"); err != nil {
			t.Error(err)
		}
	},
}
