package redis

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// unboundedClient returns a client that waits for a minute: with it the budget can
// only be the store's own.
func unboundedClient(t testing.TB, addr string) redis.UniversalClient {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, ReadTimeout: time.Minute, WriteTimeout: time.Minute, DialTimeout: time.Minute, PoolTimeout: time.Minute, MaxRetries: -1, DialerRetries: 1,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Whatever fails in Redis, a look-up ends, with a response or without.
func TestOutages(t *testing.T) {
	type outage struct {
		begin, end func(*redistest.Server, *redistest.Proxy)
	}
	for name, o := range map[string]outage{
		"killed": {
			func(s *redistest.Server, _ *redistest.Proxy) { s.Kill() },
			func(s *redistest.Server, _ *redistest.Proxy) { s.Restart() },
		},
		"frozen": {
			func(s *redistest.Server, _ *redistest.Proxy) { s.Freeze() },
			func(s *redistest.Server, _ *redistest.Proxy) { s.Thaw() },
		},
		"slow": {
			func(_ *redistest.Server, p *redistest.Proxy) { p.Delay(300 * time.Millisecond) },
			func(_ *redistest.Server, p *redistest.Proxy) { p.Delay(0) },
		},
		"swallowed": {
			func(_ *redistest.Server, p *redistest.Proxy) { p.Swallow(true) },
			func(_ *redistest.Server, p *redistest.Proxy) { p.Swallow(false); p.Cut() },
		},
		"swallowed from the first connection on": {
			func(_ *redistest.Server, p *redistest.Proxy) { p.Swallow(true); p.Cut() },
			func(_ *redistest.Server, p *redistest.Proxy) { p.Swallow(false); p.Cut() },
		},
	} {
		for _, kind := range []string{"client of the app", "client without timeouts"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				server := redistest.Start(t)
				p := redistest.NewProxy(t, server.Addr())
				client := redistest.RequestClient(t, p.Addr())
				if kind == "client without timeouts" {
					client = unboundedClient(t, p.Addr())
				}
				var changes atomic.Int32
				engine := availability.New(availability.Options{Client: client, OnChange: func(availability.Change) { changes.Add(1) }})
				t.Cleanup(engine.Close)
				s := newStore(t, Options{Client: client, Background: redistest.BackgroundClient(t, p.Addr()), Availability: engine, Budget: availability.DefaultBudget})
				key, body := object.NewKey("k"), text(1000)
				put(t, s, key, fresh(body))
				testkit.Eventually(t, "finding it before the outage", func() bool { return get(s, key) != nil })
				o.begin(server, p)
				took := make([]time.Duration, 0, 2000)
				var mu sync.Mutex
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for range 100 {
							began := time.Now()
							if o := get(s, key); o != nil && !bytes.Equal(o.Body, body) {
								t.Error("a wrong body")
							}
							mu.Lock()
							took = append(took, time.Since(began))
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				slices.Sort(took)
				t.Logf("p50 %v, p99 %v, longest %v; %+v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1], s.Stats())
				if !s.Stats().Away {
					t.Error("Redis is still asked")
				}
				s.Set(key, fresh(body))
				if s.Stats().Dropped == 0 {
					t.Error("a write waits for a Redis that is unavailable")
				}

				o.end(server, p)
				testkit.Eventually(t, "the return", func() bool { return !s.Stats().Away })
				testkit.Eventually(t, "a write", func() bool {
					s.Set(key, fresh(body))
					return get(s, key) != nil
				})
				if changes.Load() < 2 {
					t.Errorf("%d changes reported", changes.Load())
				}
			})
		}
	}
}

// The match function reads the request. It must not be called after the request went
// on, which may change it.
func TestMatchIsOfTheRequest(t *testing.T) {
	server := redistest.Start(t)
	p := redistest.NewProxy(t, server.Addr())
	s := newStore(t, Options{Client: redistest.RequestClient(t, p.Addr()), Background: redistest.BackgroundClient(t, p.Addr()), Budget: 5 * time.Millisecond})
	key := object.NewKey("k")
	for i := range 3 {
		o := fresh(noise(1000))
		o.Vary, o.Variant = []string{"Accept"}, fmt.Sprint(i)
		put(t, s, key, o)
	}
	for _, delay := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond} {
		p.Delay(delay)
		for range 50 {
			request := map[string]string{"Accept": "1"}
			s.Select(context.Background(), key, func(vary []string, v string) bool { return request["Accept"] == v })
			request["Accept"] = "changed" // for the race detector
		}
	}
}

// A canceled request says nothing about Redis.
func TestCanceledRequest(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 30 {
		s.Get(ctx, object.NewKey("k"))
	}
	if st := s.Stats(); st.Away || st.Errors != 0 || st.Late != 0 {
		t.Errorf("%+v", st)
	}
}

func TestNotReady(t *testing.T) {
	server := redistest.Start(t)
	var ready atomic.Bool
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr()), Ready: ready.Load})
	key := object.NewKey("k")
	put(t, s, key, fresh(nil))
	if get(s, key) != nil || s.Stats().Skipped != 1 {
		t.Error("read before the invalidations are known")
	}
	ready.Store(true)
	if get(s, key) == nil {
		t.Error("not read afterwards")
	}
}

// The queue is bounded by length and by bytes. What is too much is dropped, at
// once.
func TestQueue(t *testing.T) {
	for name, tc := range map[string]struct{ writes, size, dropped int }{
		"length": {3000, 100, 1900},
		"bytes":  {200, 1 << 20, 100},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
			server.Freeze()
			body := noise(tc.size)
			for i := range tc.writes {
				s.Set(object.NewKey(fmt.Sprint(i)), fresh(body))
			}
			st := s.Stats()
			if st.Dropped < int64(tc.dropped) || st.QueuedBytes > queueBytes {
				t.Errorf("%+v", st)
			}
			server.Thaw()
			testkit.Eventually(t, "the rest", func() bool {
				st := s.Stats()
				return st.QueuedBytes == 0 && st.Writes+st.WriteErrors+st.Dropped == int64(tc.writes)
			})
		})
	}
}

func TestClose(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: redistest.BackgroundClient(t, server.Addr())})
	for i := range 100 {
		key := object.NewKey(fmt.Sprint(i))
		s.Set(key, fresh(text(100)))
	}
	s.Close()
	s.Close()
	if n := server.Client().DBSize(context.Background()).Val(); n != 200 {
		t.Errorf("%d keys: what was waiting is not written", n)
	}
	key := object.NewKey("late")
	s.Set(key, fresh(nil))
	s.Delete(key)
	if get(s, key) != nil {
		t.Error("found after Close")
	}
}
