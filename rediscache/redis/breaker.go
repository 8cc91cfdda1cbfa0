package redis

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tripAfter is how many calls in a row must fail.
	tripAfter = 3
	// The time between two looks at a Redis that is away grows from the first
	// to the last.
	firstProbe = 100 * time.Millisecond
	lastProbe  = 2 * time.Second
)

// breaker keeps calls from a Redis that does not answer. While it is open a
// goroutine of its own asks for a sign of life, so that no request has to wait
// to find out.
type breaker struct {
	ping   func(context.Context) error
	change func(open bool)

	open     atomic.Bool
	failures atomic.Int32

	mu     sync.Mutex
	closed bool
	stop   chan struct{}
	done   sync.WaitGroup
}

func newBreaker(ping func(context.Context) error, change func(open bool)) *breaker {
	return &breaker{ping: ping, change: change, stop: make(chan struct{})}
}

// Open reports whether calls are to be left out.
func (b *breaker) Open() bool { return b.open.Load() }

// Report tells the breaker how a call ended.
func (b *breaker) Report(ok bool) {
	if ok {
		if b.failures.Load() != 0 {
			b.failures.Store(0)
		}
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
	b.change(true)
	b.done.Add(1)
	go b.probe()
}

func (b *breaker) probe() {
	defer b.done.Done()
	for wait := firstProbe; ; wait = min(wait*2, lastProbe) {
		timer := time.NewTimer(wait)
		select {
		case <-b.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), firstProbe)
		err := b.ping(ctx)
		cancel()
		if err == nil {
			b.failures.Store(0)
			b.open.Store(false)
			b.change(false)
			return
		}
	}
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
