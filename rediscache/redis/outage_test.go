package redis

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/rediscache/object"
)

// careless returns a client that waits for a minute: with it the budget can
// only be the store's own.
func careless(t testing.TB, addr string) redis.UniversalClient {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: addr, ReadTimeout: time.Minute, WriteTimeout: time.Minute, DialTimeout: time.Minute, PoolTimeout: time.Minute, MaxRetries: -1, DialerRetries: 1,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// proxy stands between a client and a server. It can be slow, or swallow all.
type proxy struct {
	listener net.Listener
	to       atomic.Value
	delay    atomic.Int64
	hole     atomic.Bool
	mu       sync.Mutex
	conns    []net.Conn
	done     sync.WaitGroup
}

func newProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l}
	p.to.Store(to)
	p.done.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.done.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// direct leads all connections, which have to be made anew, to another server.
func (p *proxy) direct(to string) {
	p.to.Store(to)
	p.cut()
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to.Load().(string))
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.done.Go(func() { p.pipe(out, in) })
		p.done.Go(func() { p.pipe(in, out) })
	}
}

func (p *proxy) pipe(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(p.delay.Load()))
		if p.hole.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// Whatever is wrong with Redis, a look-up ends, with the response or without.
func TestOutages(t *testing.T) {
	type outage struct {
		begin, end func(*redistest.Server, *proxy)
	}
	for name, o := range map[string]outage{
		"killed": {
			func(s *redistest.Server, _ *proxy) { s.Kill() },
			func(s *redistest.Server, _ *proxy) { s.Restart() },
		},
		"frozen": {
			func(s *redistest.Server, _ *proxy) { s.Freeze() },
			func(s *redistest.Server, _ *proxy) { s.Thaw() },
		},
		"slow": {
			func(_ *redistest.Server, p *proxy) { p.delay.Store(int64(300 * time.Millisecond)) },
			func(_ *redistest.Server, p *proxy) { p.delay.Store(0) },
		},
		"swallowed": {
			func(_ *redistest.Server, p *proxy) { p.hole.Store(true) },
			func(_ *redistest.Server, p *proxy) { p.hole.Store(false); p.cut() },
		},
		"swallowed from the first connection on": {
			func(_ *redistest.Server, p *proxy) { p.hole.Store(true); p.cut() },
			func(_ *redistest.Server, p *proxy) { p.hole.Store(false); p.cut() },
		},
	} {
		for _, kind := range []string{"app's client", "careless client"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				server := redistest.Start(t)
				p := newProxy(t, server.Addr())
				client := hot(t, p.addr())
				if kind == "careless client" {
					client = careless(t, p.addr())
				}
				var changes atomic.Int32
				s := newStore(t, Options{
					Client: client, Background: hot(t, p.addr()),
					Changed: func(bool) { changes.Add(1) },
				})
				key, body := object.NewKey("k"), text(1000)
				put(t, s, key, fresh(body))
				if get(s, key) == nil {
					t.Fatal("not found before the outage")
				}
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
				s.Set(key, with(key, fresh(body)))
				if s.Stats().Dropped == 0 {
					t.Error("a write waits for a Redis that is away")
				}

				o.end(server, p)
				eventually(t, "the return", func() bool { return !s.Stats().Away })
				eventually(t, "a write", func() bool {
					s.Set(key, with(key, fresh(body)))
					return get(s, key) != nil
				})
				if changes.Load() < 2 {
					t.Errorf("%d changes are told of", changes.Load())
				}
			})
		}
	}
}

// What looks at the request must not be called after the request went on, for
// it may change the request.
func TestMatchIsOfTheRequest(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Addr())
	s := newStore(t, Options{Client: hot(t, p.addr()), Budget: 5 * time.Millisecond})
	key := object.NewKey("k")
	for i := range 3 {
		o := fresh(noise(1000))
		o.Vary, o.Variant = []string{"Accept"}, fmt.Sprint(i)
		put(t, s, key, o)
	}
	for _, delay := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond} {
		p.delay.Store(int64(delay))
		for range 50 {
			request := map[string]string{"Accept": "1"}
			s.Select(context.Background(), key, func(vary []string, v string) bool { return request["Accept"] == v })
			request["Accept"] = "changed" // the race detector looks
		}
	}
}

// A request that is given up says nothing of Redis.
func TestGivenUp(t *testing.T) {
	server := redistest.Start(t)
	s := newStore(t, Options{Client: hot(t, server.Addr())})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 10 * tripAfter {
		s.Get(ctx, object.NewKey("k"))
	}
	if st := s.Stats(); st.Away || st.Errors != 0 || st.Late != 0 {
		t.Errorf("%+v", st)
	}
}

func TestNotReady(t *testing.T) {
	server := redistest.Start(t)
	var ready atomic.Bool
	s := newStore(t, Options{Client: hot(t, server.Addr()), Ready: func(context.Context) bool { return ready.Load() }})
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
	for name, o := range map[string]Options{
		"length": {QueueLength: 40},
		"bytes":  {QueueLength: 100_000, QueueBytes: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			o.Client = hot(t, server.Addr())
			s := newStore(t, o)
			server.Freeze()
			body := noise(10_000)
			for i := range 1000 {
				key := object.NewKey(fmt.Sprint(i))
				s.Set(key, with(key, fresh(body)))
			}
			st := s.Stats()
			if st.Dropped < 800 || st.QueuedBytes > 1<<20 {
				t.Errorf("%+v", st)
			}
			server.Thaw()
			eventually(t, "the rest", func() bool {
				st := s.Stats()
				return st.QueuedBytes == 0 && st.Writes+st.WriteErrors+st.Dropped == 1000
			})
		})
	}
}

func TestClose(t *testing.T) {
	server := redistest.Start(t)
	s := NewStore(Options{Client: hot(t, server.Addr())})
	for i := range 100 {
		key := object.NewKey(fmt.Sprint(i))
		s.Set(key, with(key, fresh(text(100))))
	}
	s.Close()
	s.Close()
	if n := server.Client().DBSize(context.Background()).Val(); n != 200 {
		t.Errorf("%d keys: what was waiting is not written", n)
	}
	key := object.NewKey("late")
	s.Set(key, with(key, fresh(nil)))
	s.Delete(key)
	if get(s, key) != nil {
		t.Error("found after Close")
	}
}

func TestStoreCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	s := newStore(t, Options{Client: hot(t, cluster.Addrs()...), Background: patient(t, cluster.Addrs()...)})
	const n = 60
	keys, bodies := make([]object.Key, n), make([][]byte, n)
	for i := range keys {
		keys[i], bodies[i] = object.NewKey(fmt.Sprint(i)), append(noise(1000), fmt.Sprint(i)...)
		if i%20 == 0 {
			bodies[i] = append(noise(2*chunkSize), fmt.Sprint(i)...)
		}
		put(t, s, keys[i], fresh(bodies[i]))
	}
	look := func() (found int) {
		for i := range keys {
			o := get(s, keys[i])
			if o == nil {
				continue
			}
			found++
			if !bytes.Equal(o.Body, bodies[i]) {
				t.Errorf("%d: a wrong body", i)
			}
		}
		return found
	}
	if found := look(); found < n-3 {
		t.Errorf("%d of %d found", found, n)
	}

	// Slots move while they are read and written.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; ; i = (i + 1) % n {
				select {
				case <-stop:
					return
				default:
				}
				if o := get(s, keys[i]); o != nil && !bytes.Equal(o.Body, bodies[i]) {
					t.Errorf("%d: a wrong body", i)
				}
				s.Set(keys[i], with(keys[i], fresh(bodies[i])))
			}
		})
	}
	cluster.Reshard("2000")
	close(stop)
	wg.Wait()
	t.Logf("after the move: %+v", s.Stats())
	eventually(t, "all after the move", func() bool {
		for i := range keys {
			s.Set(keys[i], with(keys[i], fresh(bodies[i])))
		}
		return look() == n
	})
	eventually(t, "deletion", func() bool {
		for i := range keys {
			s.Delete(keys[i]) // may be dropped while much is waiting
		}
		return look() == 0
	})
}

func TestStoreSentinel(t *testing.T) {
	sentinel := redistest.StartSentinel(t)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: redistest.MasterName, SentinelAddrs: []string{sentinel.URL()[len("redis://"):]},
		ReadTimeout: 100 * time.Millisecond, DialTimeout: 250 * time.Millisecond, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = client.Close() })
	s := newStore(t, Options{Client: client})
	e := newEpochs(t, client, 100*time.Millisecond)
	inStep(t, e)
	key, body := object.NewKey("k"), text(500)
	put(t, s, key, fresh(body))
	o := tagged(e, "x")
	sentinel.Master.Kill()
	for range 200 {
		if o := get(s, key); o != nil && !bytes.Equal(o.Body, body) {
			t.Error("a wrong body")
		}
	}
	e.Invalidate(object.Scope{Tag: "x"})
	eventually(t, "the failover", func() bool {
		s.Set(key, with(key, fresh(body)))
		return get(s, key) != nil
	})
	inStep(t, e)
	eventually(t, "sharing", func() bool { return e.Stats().Pending == 0 })
	other := newEpochs(t, patient(t, sentinel.Replica.Addr()), 100*time.Millisecond)
	inStep(t, other)
	eventually(t, "the invalidation at another gateway", func() bool { return other.freshness(o.Clone()) == object.Hard })
}
