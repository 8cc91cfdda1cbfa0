package redis

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pythopus/tentagate/app/replog"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/memory"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// replica is the caching part of a gateway: both tiers and the invalidations.
type replica struct {
	memory *memory.Store
	redis  *Store
	epochs *Epochs
}

func newReplica(t testing.TB, server *redistest.Server, deafened bool) *replica {
	t.Helper()
	r := startReplica(t, server, deafened)
	r.epochs.Start()
	inStep(t, r.epochs)
	return r
}

// startReplica returns a replica that may not know of the invalidations yet.
func startReplica(t testing.TB, server *redistest.Server, deafened bool) *replica {
	t.Helper()
	background := redistest.BackgroundClient(t, server.Addr())
	if deafened {
		background = redistest.WithoutMessages(t, background)
	}
	r := &replica{memory: memory.New(16 << 20)}
	t.Cleanup(r.memory.Close)
	r.epochs = NewEpochs(epoch.New(), replog.Options{Client: background}, prefix)
	t.Cleanup(r.epochs.Close)
	r.redis = newStore(t, Options{Client: background, Ready: r.epochs.Ready, Admit: r.epochs.Admit})
	return r
}

// get answers as the handler does: from memory, else from Redis with promotion,
// and only what no invalidation concerns.
func (r *replica) get(key object.Key) (*object.Object, string) {
	ctx := context.Background()
	if e := r.memory.Get(key); e != nil && r.epochs.table.Check(e.Variants[0]) == object.Valid {
		return e.Variants[0], "memory"
	}
	if e := r.redis.Get(ctx, key); e != nil && r.epochs.table.Check(e.Variants[0]) == object.Valid {
		r.memory.Set(key, e)
		return e.Variants[0], "redis"
	}
	return nil, ""
}

// fill asks the origin and stores what it says.
func (r *replica) fill(t testing.TB, key object.Key, path string, origin func() []byte) *object.Object {
	o := fresh(nil)
	o.Path, o.Tags, o.Epoch = path, []string{"all"}, r.epochs.table.Now()
	o.Body = origin()
	r.memory.Set(key, only(key, o))
	put(t, r.redis, key, o)
	return o
}

// What one replica stores another finds, of the same age; what one purges the
// other uses no more, with Pub/Sub or without.
func TestReplicas(t *testing.T) {
	for name, deafened := range map[string]bool{"with Pub/Sub": false, "Pub/Sub cut": true} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			a, b := newReplica(t, server, deafened), newReplica(t, server, deafened)
			key := object.NewKey("k")
			for i := range 4 {
				body := []byte(fmt.Sprint("answer ", i))
				stored := a.fill(t, key, "/k", func() []byte { return body })
				var found *object.Object
				testkit.Eventually(t, "the other replica", func() bool {
					o, _ := b.get(key)
					found = o
					return o != nil && bytes.Equal(o.Body, body)
				})
				if !found.ResponseTime.Equal(stored.ResponseTime.Truncate(time.Microsecond)) {
					t.Error("its age begins anew")
				}
				if _, from := b.get(key); from != "memory" {
					t.Errorf("then it comes from %s", from)
				}
				purge := object.Scope{URL: "https://example.com/k"}
				if i%2 == 1 {
					purge = object.Scope{Tag: "all"}
				}
				b.epochs.invalidate(purge)
				if o, from := b.get(key); o != nil {
					t.Errorf("used after the purge, from %s", from)
				}
				testkit.Eventually(t, "the purge", func() bool { o, _ := a.get(key); return o == nil })
				// A third that starts now, with nothing but Redis, knows too.
				c := newReplica(t, server, deafened)
				if o, _ := c.get(key); o != nil {
					t.Error("a new replica uses what was purged")
				}
			}
		})
	}
}

// The very first request of a replica finds what others stored.
func TestFirstRequest(t *testing.T) {
	server := redistest.Start(t)
	a := newReplica(t, server, false)
	key := object.NewKey("k")
	a.fill(t, key, "/k", func() []byte { return []byte("answer") })
	b := startReplica(t, server, false)
	b.epochs.Await(t.Context())
	if o, from := b.get(key); o == nil || from != "redis" {
		t.Errorf("got %v from %q", o, from)
	}
	// Without Redis it waits for no longer than it must.
	server.Kill()
	c := startReplica(t, server, false)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	c.epochs.Await(ctx)
	if o, _ := c.get(key); o != nil {
		t.Errorf("got %v", o)
	}
}

// Replicas fill, read and purge the same keys during faults of Redis. A replica never
// uses again what it purged, and in the end none does.
func TestReplicasDuringFaults(t *testing.T) {
	server := redistest.Start(t)
	replicas := []*replica{newReplica(t, server, false), newReplica(t, server, false), newReplica(t, server, true)}
	for _, r := range replicas {
		r.redis = newStore(t, Options{
			Client: redistest.RequestClient(t, server.Addr()), Background: redistest.BackgroundClient(t, server.Addr()),
			Ready: r.epochs.Ready, Admit: r.epochs.Admit, Budget: time.Second,
		})
	}
	const keys = 8
	var versions [keys]atomic.Int64 // the origin's
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g, r := range replicas {
		for range 2 {
			wg.Go(func() {
				for i := g; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					n := i % keys
					key, path := object.NewKey(fmt.Sprint(n)), fmt.Sprint("/", n)
					switch {
					case i%17 == 0:
						// The origin changes, then the purge.
						after := versions[n].Add(1)
						r.epochs.invalidate(object.Scope{URL: "https://example.com" + path})
						if o, from := r.get(key); o != nil && versionOf(o) < after {
							t.Errorf("%s: version %d from %s after the purge of %d", path, versionOf(o), from, after)
						}
					default:
						if o, _ := r.get(key); o != nil {
							continue
						}
						o := fresh(nil)
						o.Path, o.Epoch = path, r.epochs.table.Now()
						o.Body = []byte(fmt.Sprint(versions[n].Load()))
						r.memory.Set(key, only(key, o))
						r.redis.Set(key, o)
					}
				}
			})
		}
	}
	for range 2 {
		server.Freeze()
		testkit.Eventually(t, "the outage", func() bool { return !replicas[0].epochs.Ready() })
		server.Thaw()
		inStep(t, replicas[0].epochs, replicas[1].epochs, replicas[2].epochs)
		server.Kill()
		testkit.Eventually(t, "the end", func() bool { return !replicas[1].epochs.Ready() })
		server.Restart()
		inStep(t, replicas[0].epochs, replicas[1].epochs, replicas[2].epochs)
		server.Flush()
	}
	close(stop)
	wg.Wait()
	for i, r := range replicas {
		testkit.Eventually(t, fmt.Sprint("replica ", i), func() bool {
			for n := range keys {
				if o, _ := r.get(object.NewKey(fmt.Sprint(n))); o != nil && versionOf(o) != versions[n].Load() {
					return false
				}
			}
			return true
		})
	}
}

func versionOf(o *object.Object) int64 {
	var v int64
	_, _ = fmt.Sscan(string(o.Body), &v)
	return v
}

func BenchmarkGet(b *testing.B) {
	server := redistest.Start(b)
	for name, body := range map[string][]byte{"1k": noise(1 << 10), "100k": noise(100 << 10), "1M": noise(1 << 20)} {
		b.Run(name, func(b *testing.B) {
			s := newStore(b, Options{Client: redistest.RequestClient(b, server.Addr()), Background: redistest.BackgroundClient(b, server.Addr()), Budget: time.Minute})
			key := object.NewKey(name)
			put(b, s, key, fresh(body))
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if get(s, key) == nil {
					b.Fatal("missing")
				}
			}
		})
	}
}
