package redis

import (
	"context"

	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// pending are invalidations that are not in the log yet.
type pending struct {
	marks map[epoch.Mark]struct{}
	done  chan struct{} // closed when the batch was tried
	ok    bool          // that it is in the log; set before done is closed
}

func newPending() *pending {
	return &pending{marks: map[epoch.Mark]struct{}{}, done: make(chan struct{})}
}

// Invalidate makes the scopes unusable here at once and at all other gateways.
// It waits for Redis no longer than the budget, and not at all while Redis is
// away; what was not shared then is shared later. A scope that makes no sense
// names nothing.
func (e *Epochs) Invalidate(scopes ...object.Scope) {
	ctx, cancel := context.WithTimeout(context.Background(), e.o.Budget)
	defer cancel()
	var all []epoch.Mark
	for _, s := range scopes {
		marks, _ := epoch.Marks(s)
		all = append(all, marks...)
	}
	e.purge(ctx, all)
}

// Purge is Invalidate with the context's deadline for the wait. It reports
// whether the invalidation is in the log already. If it is not, it will be: that
// is no error. An error is a scope that makes no sense; then nothing is
// invalidated.
func (e *Epochs) Purge(ctx context.Context, scopes ...object.Scope) (shared bool, err error) {
	marks, err := epoch.Marks(scopes...)
	if err != nil {
		return false, err
	}
	return e.purge(ctx, marks), nil
}

func (e *Epochs) purge(ctx context.Context, marks []epoch.Mark) (shared bool) {
	if len(marks) == 0 {
		return true
	}
	e.Start()
	e.mu.Lock()
	e.table.Bump(marks)
	p := e.pending
	for _, m := range marks {
		p.marks[m] = struct{}{}
	}
	e.mu.Unlock()
	select {
	case e.work <- struct{}{}:
	default:
	}
	if !e.ready.Load() {
		return false
	}
	select {
	case <-p.done:
		return p.ok
	case <-ctx.Done():
		return false
	}
}

// share writes pending invalidations to the log.
func (e *Epochs) share(ctx context.Context) {
	defer e.done.Done()
	for {
		select {
		case <-e.work:
			for e.sharePending(ctx) {
			}
		case <-ctx.Done():
			// What is left has one more chance.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), syncTimeout/4)
			for e.sharePending(last) {
			}
			cancel()
			return
		}
	}
}

// sharePending writes some of what is pending and reports whether there is more
// to do at once.
func (e *Epochs) sharePending(ctx context.Context) (more bool) {
	e.mu.Lock()
	p := e.pending
	if len(p.marks) == 0 {
		e.mu.Unlock()
		return false
	}
	e.pending, e.writing = newPending(), p
	clock := e.table.Now()
	e.mu.Unlock()

	marks := make([]epoch.Mark, 0, len(p.marks))
	for m := range p.marks {
		marks = append(marks, m)
	}
	for len(marks) > 0 {
		some := marks[:min(len(marks), batch)]
		prev, at, err := e.append(ctx, some, clock)
		if err != nil {
			break
		}
		e.table.Confirm(some, at)
		e.shared.Add(1)
		if e.synced.Load() >= prev {
			raise(&e.synced, at)
		}
		marks = marks[len(some):]
		clock = at
	}
	p.ok = len(marks) == 0
	e.mu.Lock()
	if !p.ok {
		// To be tried again after the next successful look at the log.
		e.failures.Add(1)
		e.ready.Store(false)
		for _, m := range marks {
			e.pending.marks[m] = struct{}{}
		}
	}
	e.writing = nil
	e.mu.Unlock()
	close(p.done)
	return p.ok
}
