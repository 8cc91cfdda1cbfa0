package redis

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// errTimeout means that Redis did not answer within the budget.
var errTimeout = errors.New("redis did not answer within the budget")

// errBusy means that too many requests wait already.
var errBusy = errors.New("too many requests wait for redis")

// errClosed means that the engine has ended.
var errClosed = errors.New("the connection is closed")

// roundTrip is a call on its way to Redis and back, or several that are decided
// together, all or none. A negative cost gives units back.
type roundTrip struct {
	kind  kind
	calls []Call
	limit time.Duration // the longest it is waited for
	short bool          // that is much less than usual

	// Of a plan with windows or quotas: the time of the admission to refund, the
	// units of each meter to debit, and the answer.
	at    int64
	costs []int64
	exact *gcra.Decision

	reply reply
	err   error
	state atomic.Int32
	done  chan struct{}
	one   [1]Call
}

// States of a round trip. The goroutine that moves it from pending owns it.
const (
	pending int32 = iota
	answered
	abandoned
)

var roundTripPool = sync.Pool{New: func() any { return &roundTrip{done: make(chan struct{}, 1)} }}

// newRoundTrip returns a round trip of copies of the calls. Who has waited for it by
// Engine.do gives it back by release.
func newRoundTrip(k kind, calls ...Call) *roundTrip {
	t := roundTripPool.Get().(*roundTrip)
	t.calls = append(t.one[:0], calls...)
	t.kind, t.limit, t.short = k, 0, true
	for i := range t.calls {
		c := &t.calls[i]
		if c.name == "" {
			c.locate()
		}
		limit, short := c.limit()
		t.limit, t.short = max(t.limit, limit), t.short && short
	}
	t.state.Store(pending)
	return t
}

// release gives the round trip back, unless Redis may still carry it out.
func (t *roundTrip) release() {
	if t.state.Load() == abandoned {
		return
	}
	t.one[0], t.calls, t.exact, t.err = Call{}, nil, nil, nil
	roundTripPool.Put(t)
}

var timerPool = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// do sends a round trip and waits for its answer, no longer than its limit. The wait
// is charged to the request. After errTimeout Redis may still carry it out.
func (e *Engine) do(t *roundTrip) error {
	if t.limit <= 0 {
		return errTimeout
	}
	began := e.clock()
	defer func(request *availability.Budget) { request.Spend(time.Duration(e.clock() - began)) }(t.calls[0].Request)
	e.submit(t)
	timer := timerPool.Get().(*time.Timer)
	timer.Reset(t.limit)
	defer func() {
		timer.Stop()
		timerPool.Put(timer)
	}()
	select {
	case <-t.done:
	case <-timer.C:
		if t.state.CompareAndSwap(pending, abandoned) {
			return errTimeout
		}
		<-t.done
	}
	return t.err
}

// finish wakes the goroutine that waits for the round trip.
func (t *roundTrip) finish(err error) {
	// Once the state has changed the waiter may reuse it, but not before it was
	// woken.
	t.err = err
	if t.state.CompareAndSwap(pending, answered) {
		t.done <- struct{}{}
	}
}
