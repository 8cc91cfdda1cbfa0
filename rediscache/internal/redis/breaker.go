package redis

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tripAfter is how many calls in a row must fail, each begun after the one
	// before had failed.
	tripAfter = 3
	// The time between two looks at a Redis that is away grows from the first
	// to the last.
	firstProbe = 100 * time.Millisecond
	lastProbe  = 2 * time.Second
	// dialTime is what opening a connection may take.
	dialTime = 250 * time.Millisecond
	// relapse is how long calls must go well for the next outage to count as a
	// new one. A Redis that is just too slow answers a look now and then.
	relapse = 10 * time.Second
)

// breaker keeps calls from a Redis that does not answer. While it is open a
// goroutine of its own asks for a sign of life, so that no request has to wait
// to find out.
type breaker struct {
	ping   func(context.Context) error
	budget time.Duration // in which a sign of life must come
	change func(open bool)

	open     atomic.Bool
	failures atomic.Int32
	failed   atomic.Int64 // when a failure was counted last, in ns since began
	began    time.Time

	mu     sync.Mutex
	closed bool
	wait   time.Duration // before the next look
	well   time.Time     // since when calls were let through again
	stop   chan struct{}
	done   sync.WaitGroup
}

func newBreaker(budget time.Duration, ping func(context.Context) error, change func(open bool)) *breaker {
	return &breaker{ping: ping, budget: budget, change: change, stop: make(chan struct{}), began: time.Now()}
}

// Open reports whether calls are to be left out.
func (b *breaker) Open() bool { return b.open.Load() }

// Report tells the breaker how a call ended that began at the time. Calls that
// fail together count once: a burst of them may be too much for this machine,
// and says little of Redis.
func (b *breaker) Report(ok bool, began time.Time) {
	if ok {
		if b.failures.Load() != 0 {
			b.failures.Store(0)
		}
		return
	}
	last := b.failed.Load()
	if int64(began.Sub(b.began)) < last || !b.failed.CompareAndSwap(last, int64(time.Since(b.began))) {
		return
	}
	if b.failures.Add(1) >= tripAfter && !b.open.Load() {
		b.trip()
	}
}

func (b *breaker) trip() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.open.Swap(true) {
		return
	}
	if time.Since(b.well) > relapse {
		b.wait = firstProbe
	}
	b.change(true)
	b.done.Add(1)
	go b.probe(b.wait)
}

func (b *breaker) probe(wait time.Duration) {
	defer b.done.Done()
	for {
		timer := time.NewTimer(wait)
		select {
		case <-b.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		wait = min(wait*2, lastProbe)
		// The first look may have to open a connection. The second has to be as
		// quick as a request needs it.
		if b.look(max(b.budget, dialTime)) && b.look(b.budget) {
			b.mu.Lock()
			b.wait, b.well = wait, time.Now()
			b.failures.Store(0)
			b.open.Store(false)
			b.change(false)
			b.mu.Unlock()
			return
		}
	}
}

func (b *breaker) look(limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return b.ping(ctx) == nil
}

// Close ends the probing.
func (b *breaker) Close() {
	b.mu.Lock()
	already := b.closed
	b.closed = true
	b.mu.Unlock()
	if !already {
		close(b.stop)
	}
	b.done.Wait()
}
