// Package refresh repeats work in the background, such as fetching a document: by the
// schedule that the work sets, and when it is asked for.
package refresh

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Loop repeats work, one run at a time.
type Loop struct {
	work func(ctx context.Context) time.Duration

	begun atomic.Bool // there was a Start
	asked chan struct{}

	mu      sync.Mutex
	closed  bool          // guarded by mu
	last    time.Time     // guarded by mu: when the last run began
	due     time.Time     // guarded by mu: when the next one begins
	running chan struct{} // guarded by mu: closed when the run ends; nil if there is none

	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

// New returns a loop. work does the work once and returns the time to the next run.
// Nothing runs before Start; Close ends it.
func New(work func(ctx context.Context) time.Duration) *Loop {
	l := &Loop{work: work, asked: make(chan struct{}, 1), done: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Start begins with the first run, after a delay. It may be called more than once.
func (l *Loop) Start(delay time.Duration) {
	if l.begun.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.begun.Swap(true) {
		return
	}
	if l.due = time.Now().Add(delay); delay <= 0 {
		l.begin()
	}
	go l.schedule()
}

// Run begins a run, unless there is one, and returns a channel that is closed when it
// ends. may is called with the time at which the last run began, zero for none. The
// channel is nil if may forbids a run, and after Close unless a run is still ending. It is
// for after Start.
func (l *Loop) Run(may func(last time.Time) bool) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != nil {
		return l.running
	}
	if l.closed || !may(l.last) {
		return nil
	}
	select {
	case l.asked <- struct{}{}:
	default:
	}
	return l.begin()
}

// First waits until the first run has ended or the context is done. It does not wait for
// the delay of Start.
func (l *Loop) First(ctx context.Context) {
	if running := l.Run(time.Time.IsZero); running != nil {
		select {
		case <-running:
		case <-ctx.Done():
		}
	}
}

// Again waits until a run has ended that began after the call. The error is that of the
// context, or context.Canceled after Close.
func (l *Loop) Again(ctx context.Context) error {
	called := time.Now()
	for {
		running := l.Run(func(time.Time) bool { return true })
		if running == nil {
			return context.Canceled
		}
		select {
		case <-running:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
		last := l.last
		l.mu.Unlock()
		if !last.Before(called) {
			return nil
		}
	}
}

// Next returns the time to the next run: zero during one.
func (l *Loop) Next() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != nil {
		return 0
	}
	return max(time.Until(l.due), 0)
}

// Close ends the runs, and waits for one to end.
func (l *Loop) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	if l.begun.Load() {
		<-l.done
	}
}

// begin begins a run; mu is held and there is none.
func (l *Loop) begin() chan struct{} {
	l.last = time.Now()
	running := make(chan struct{})
	l.running = running
	go func() {
		defer close(running)
		pause := l.work(l.ctx)
		l.mu.Lock()
		l.running, l.due = nil, time.Now().Add(pause)
		l.mu.Unlock()
	}()
	return running
}

// schedule begins the runs that are due, until Close.
func (l *Loop) schedule() {
	defer close(l.done)
	for {
		l.mu.Lock()
		running, wait, closed := l.running, time.Until(l.due), l.closed
		if running == nil && wait <= 0 && !closed {
			running = l.begin()
		}
		l.mu.Unlock()
		switch {
		case running != nil:
			<-running
			continue
		case closed:
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.asked:
		case <-l.ctx.Done():
		}
		timer.Stop()
	}
}
