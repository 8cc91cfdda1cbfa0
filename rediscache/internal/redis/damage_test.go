package redis

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// Whatever is found under a key, it is an object or a miss, and invalid values are
// deleted.
func TestInvalidValues(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	ctx := context.Background()
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	for name, spoil := range map[string]func(key object.Key){
		"flipped": func(key object.Key) {
			admin.SetRange(ctx, s.key(key, "v:0"), 40, "\xff\xfe")
		},
		"cut": func(key object.Key) {
			v := admin.Get(ctx, s.key(key, "v:0")).Val()
			admin.Set(ctx, s.key(key, "v:0"), v[:len(v)/2], 0)
		},
		"empty": func(key object.Key) { admin.Set(ctx, s.key(key, "v:0"), "", 0) },
		"later version": func(key object.Key) {
			v := []byte(admin.Get(ctx, s.key(key, "v:0")).Val())
			v[len(magic)] = version + 1
			admin.Set(ctx, s.key(key, "v:0"), resum(v), 0)
		},
		"another type": func(key object.Key) {
			admin.Del(ctx, s.key(key, "v:0"))
			admin.SAdd(ctx, s.key(key, "v:0"), "x")
		},
		"index of another type": func(key object.Key) {
			admin.Del(ctx, s.key(key, "i"), s.key(key, "v:0"))
			admin.Set(ctx, s.key(key, "i"), "x", 0)
		},
		"index of another format": func(key object.Key) { admin.HSet(ctx, s.key(key, "i"), "0", "x") },
		"chunk flipped":           func(key object.Key) { admin.SetRange(ctx, s.key(key, "c:0:1"), 100, "\xff\xfe") },
	} {
		t.Run(name, func(t *testing.T) {
			server.Flush()
			key := object.NewKey("k")
			body := text(300)
			if strings.HasPrefix(name, "chunk") {
				body = noise(2 * chunkSize)
			}
			put(t, s, key, fresh(body))
			spoil(key)
			before := s.Stats()
			if e := s.Peek(ctx, key, func([]string, string) bool { return true }); e != nil {
				t.Fatalf("a look found %+v", e)
			}
			if now := s.Stats(); now.Corrupt != before.Corrupt {
				t.Error("a look has the invalid value deleted")
			}
			if o := get(s, key); o != nil {
				t.Fatalf("got %+v", o)
			}
			testkit.Eventually(t, "deletion", func() bool { return s.Stats().Deletes > before.Deletes })
			if s.Stats().Corrupt == before.Corrupt {
				t.Error("not counted")
			}
			put(t, s, key, fresh(text(200)))
			if get(s, key) == nil {
				t.Error("a new response is not found")
			}
			if s.Stats().Away {
				t.Error("Redis is considered unavailable")
			}
		})
	}
	t.Run("another key's value", func(t *testing.T) {
		server.Flush()
		a, b := object.NewKey("a"), object.NewKey("b")
		put(t, s, a, fresh([]byte("a's")))
		admin.Copy(ctx, s.key(a, "v:0"), s.key(b, "v:0"), 0, true)
		if o := get(s, b); o != nil {
			t.Errorf("got %s", o.Body)
		}
	})
}

// Any key may be evicted at any time.
func TestEvicted(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	ctx := context.Background()
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	body := noise(2*chunkSize + 1)
	for _, gone := range []string{"i", "v:0", "c:0:0", "c:0:2"} {
		server.Flush()
		key := object.NewKey("k")
		put(t, s, key, fresh(body))
		admin.Del(ctx, s.key(key, gone))
		if o := get(s, key); o != nil && !bytes.Equal(o.Body, body) {
			t.Errorf("without %s: a wrong body", gone)
		} else if o == nil && gone == "i" {
			t.Error("without the index the only variant is not found")
		}
		put(t, s, key, fresh(body))
		if get(s, key) == nil {
			t.Errorf("without %s: not found after it was written again", gone)
		}
	}
}

func TestFull(t *testing.T) {
	for _, policy := range []string{"allkeys-lru", "volatile-ttl", "noeviction"} {
		t.Run(policy, func(t *testing.T) {
			server := redistest.Start(t, "--maxmemory", "6mb", "--maxmemory-policy", policy)
			s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
			const n = 400
			bodies := make([][]byte, n)
			for i := range bodies {
				bodies[i] = append(noise(100_000), fmt.Sprint(i)...)
				key := object.NewKey("k", fmt.Sprint(i))
				s.Set(key, fresh(bodies[i]))
			}
			testkit.Eventually(t, "the writes", func() bool {
				st := s.Stats()
				return st.Writes+st.WriteErrors+st.Dropped == n
			})
			found := 0
			for i, body := range bodies {
				o := get(s, object.NewKey("k", fmt.Sprint(i)))
				if o == nil {
					continue
				}
				found++
				if !bytes.Equal(o.Body, body) {
					t.Errorf("%d: a wrong body", i)
				}
			}
			st := s.Stats()
			t.Logf("%d of %d found, %+v", found, n, st)
			if found == 0 || found == n {
				t.Errorf("%d of %d found: the server was not full, or kept nothing", found, n)
			}
			if st.Away || st.Errors != 0 {
				t.Errorf("a full Redis is considered unavailable: %+v", st)
			}
			if policy == "noeviction" && st.WriteErrors == 0 {
				t.Error("the refused writes are not counted")
			}
		})
	}
}

func TestFlushed(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	key := object.NewKey("k")
	put(t, s, key, fresh(text(100)))
	server.Flush()
	if get(s, key) != nil {
		t.Error("found")
	}
	if _, err := server.Client().ScriptFlush(context.Background()).Result(); err != nil {
		t.Fatal(err)
	}
	put(t, s, key, fresh(text(100)))
	if get(s, key) == nil {
		t.Error("not found")
	}
}
