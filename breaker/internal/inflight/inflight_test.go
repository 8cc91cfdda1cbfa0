package inflight

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// one has room for one request, and two that wait for 100ms, of either kind.
var one = map[string]Settings{
	"fixed":    {Max: 1, Queue: 2, QueueWait: 100 * time.Millisecond},
	"adaptive": {Max: 1, Min: 1, Adaptive: true, Queue: 2, QueueWait: 100 * time.Millisecond},
}

// The queue is bounded in its length and in its time, and nobody's place is
// lost.
func TestQueue(t *testing.T) {
	for name, settings := range one {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(settings)
				first, err := l.Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				type result struct {
					err  error
					took time.Duration
				}
				results := make(chan result, 10)
				for range 5 {
					go func() {
						place, err := l.Acquire(t.Context())
						if place != nil {
							place.Release()
						}
						results <- result{err, time.Since(began)}
					}()
				}
				synctest.Wait()
				for range 3 {
					if r := <-results; !errors.Is(r.err, ErrFull) || r.took != 0 {
						t.Errorf("beyond the queue: %v after %s", r.err, r.took)
					}
				}
				if in, queued, limit := l.Stats(); in != 1 || queued != 2 || limit != 1 {
					t.Errorf("%d under way, %d waiting, limit %d", in, queued, limit)
				}
				for range 2 {
					if r := <-results; !errors.Is(r.err, ErrTimeout) || r.took != settings.QueueWait {
						t.Errorf("in the queue: %v after %s", r.err, r.took)
					}
				}

				// A client that disconnects leaves the queue; a free place goes to the next.
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					_, err := l.Acquire(ctx)
					results <- result{err: err}
				}()
				go func() {
					place, err := l.Acquire(t.Context())
					results <- result{err: err}
					place.Release()
				}()
				synctest.Wait()
				cancel()
				if r := <-results; !errors.Is(r.err, context.Canceled) {
					t.Errorf("gone: %v", r.err)
				}
				first.Release()
				first.Release() // once is enough
				if r := <-results; r.err != nil {
					t.Errorf("the place of the first: %v", r.err)
				}
				synctest.Wait()
				if in, queued, _ := l.Stats(); in != 0 || queued != 0 {
					t.Errorf("%d under way and %d waiting at the end", in, queued)
				}
			})
		})
	}
}

// A bound that is changed applies to the requests that wait.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(one["fixed"])
		if _, err := l.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			_, err := l.Acquire(t.Context())
			got <- err
		}()
		synctest.Wait()
		if !l.Configure(Settings{Max: 2}) {
			t.Fatal("it cannot be changed")
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
		if l.Configure(one["adaptive"]) {
			t.Error("one kind becomes the other")
		}
		if a := New(one["adaptive"]); a.Configure(Settings{Adaptive: true, Min: 1, Max: 2}) || !a.Configure(one["adaptive"]) {
			t.Error("the adaptive limiter takes other bounds")
		}
	})
}

// service is a backend that works on some requests at a time; the others wait in
// it.
type service struct {
	mu    sync.Mutex
	free  time.Time // when the whole of it has worked off what it was given
	takes time.Duration
	width int
}

// serve takes as long as the request has to wait, and then its own time.
func (s *service) serve() {
	s.mu.Lock()
	now := time.Now()
	if s.free.Before(now) {
		s.free = now
	}
	wait := s.free.Sub(now)
	s.free = s.free.Add(s.takes / time.Duration(s.width))
	takes := s.takes
	s.mu.Unlock()
	time.Sleep(wait + takes)
}

func (s *service) becomes(takes time.Duration, width int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes, s.width = takes, width
}

// The adaptive limit grows where answers stay fast however many requests there
// are, falls where they take longer the more there are, and grows again.
func TestAdaptive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := Settings{Adaptive: true, Min: 10, Max: 150}
		l := New(settings)
		backend := &service{takes: 20 * time.Millisecond, width: 1000}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range 100 {
			wg.Go(func() {
				for ctx.Err() == nil {
					place, err := l.Acquire(ctx)
					if err != nil {
						refused.Add(1)
						time.Sleep(10 * time.Millisecond)
						continue
					}
					backend.serve()
					place.Header(true)
					place.Release()
				}
			})
		}
		limit := func() int {
			_, _, limit := l.Stats()
			if limit < settings.Min || limit > settings.Max {
				t.Errorf("limit %d", limit)
			}
			return limit
		}
		// until lets time pass until the limit is as wanted.
		until := func(what string, ok func(limit int) bool) {
			t.Helper()
			for range 600 {
				if ok(limit()) {
					return
				}
				time.Sleep(time.Second)
			}
			t.Errorf("%s: the limit is %d after 10 minutes", what, limit())
		}
		start := limit()
		until("fast", func(n int) bool { return n >= 80 })
		fast := limit()
		backend.becomes(200*time.Millisecond, 8)
		until("slow", func(n int) bool { return n <= 20 })
		slow := limit()
		if refused.Load() == 0 {
			t.Error("nobody was refused")
		}
		backend.becomes(20*time.Millisecond, 1000)
		until("fast again", func(n int) bool { return n >= 80 })
		t.Logf("the limit was %d, then %d, %d and %d", start, fast, slow, limit())
		cancel()
		wg.Wait()
	})
}
