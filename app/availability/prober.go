package availability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// The time between two probes grows from probeFirst to probeLast while they
	// fail. The latter also bounds how late the return is noticed.
	probeFirst = 100 * time.Millisecond
	probeLast  = 500 * time.Millisecond

	// dialTime is what a probe may take that has to open a connection.
	dialTime = 250 * time.Millisecond

	// probeMost bounds a probe, however long features wait.
	probeMost = time.Second

	// probesToReturn is how many probes in a row have to succeed, so that a
	// flapping server does not take the requests with it.
	probesToReturn = 3

	// relapse is how long a partition has to stay available for the next outage
	// to count as a new one. A server that is just too slow answers a probe now
	// and then.
	relapse = 10 * time.Second

	// RestoreTimeout bounds what a subscriber does before a partition is used
	// again.
	RestoreTimeout = 2 * time.Second
)

// Subscriber is a feature that follows the availability of Redis.
type Subscriber struct {
	// Name is what the feature is called in the log.
	Name string

	// Restore does what must come before the partition is used again: it settles
	// debts or catches up. The server answers at that time. An error of class
	// Outage or Refused keeps the partition out of use, and Restore is called
	// again after further probes. After RestoreTimeout, when the context ends, the
	// partition is used without it. Default: nothing has to be done.
	Restore func(ctx context.Context, p *Partition) error

	// Changed is called after the state changed, one call at a time, and when
	// subscribing for each partition that is not available. It must not block.
	// Default: changes are not reported.
	Changed func(p *Partition, s State)
}

type subscriber struct {
	Subscriber
	restoring atomic.Bool
}

// Subscribe adds a subscriber until cancel is called.
func (e *Engine) Subscribe(s Subscriber) (cancel func()) {
	sub := &subscriber{Subscriber: s}
	e.reporting.Lock()
	defer e.reporting.Unlock()
	e.mu.Lock()
	e.subscribers = append(e.subscribers, sub)
	e.mu.Unlock()
	if s.Changed != nil {
		for p, state := range e.reported {
			s.Changed(p, state)
		}
	}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.subscribers = slices.DeleteFunc(slices.Clone(e.subscribers), func(other *subscriber) bool { return other == sub })
	}
}

func (e *Engine) subscribed() []*subscriber {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.subscribers
}

// notify reports the state of a partition to OnChange and the subscribers, if it has
// changed.
func (e *Engine) notify(c Change) {
	e.reporting.Lock()
	defer e.reporting.Unlock()
	if c.From = e.reported[c.Partition]; c.From == c.State {
		return
	}
	if e.reported[c.Partition] = c.State; c.State == Available {
		delete(e.reported, c.Partition)
	}
	e.onChange(c)
	for _, s := range e.subscribed() {
		if s.Changed != nil {
			s.Changed(c.Partition, c.State)
		}
	}
}

// notifyReason reports that a partition fails in another way than before.
func (e *Engine) notifyReason(p *Partition) {
	e.reporting.Lock()
	defer e.reporting.Unlock()
	status := p.Status()
	e.onReason(Change{Partition: p, From: status.State, State: status.State, Reason: status.Reason})
}

// probe asks the server, alone for all requests, until the partition can be used
// again.
func (p *Partition) probe() {
	e := p.engine
	pause := probeFirst
	if time.Since(p.reopened) < relapse {
		pause = probeLast
	}
	timer := time.NewTimer(jitter(pause))
	defer timer.Stop()
	good, alive := 0, 0
	for {
		status := p.Status()
		e.notify(Change{Partition: p, State: status.State, Reason: status.Reason})
		select {
		case <-e.ctx.Done():
			return
		case <-p.changed:
			continue
		case <-timer.C:
		}
		if p.name != "" && !e.owns(p.name) {
			p.leave()
			return
		}
		limit := min(2*time.Duration(e.slowest.Load()), probeMost)
		if alive <= 0 {
			limit = max(limit, dialTime)
		}
		err := e.probeOnce(limit, p.name)
		if isDenied(err) {
			err = nil // the server works; whether that is enough, subscribers find out
		}
		switch Classify(err) {
		case Answered:
			good, alive = good+1, max(0, alive)+1
			p.contacted.Store(true)
		case Refused:
			good, alive = 0, max(0, alive)+1
			if alive >= probesToReturn {
				p.move(ReadOnly, err)
			}
		case Outage:
			good, alive = 0, min(0, alive-1)
			if alive <= -probesToReturn {
				p.move(Unavailable, err)
			}
		case Canceled:
			return
		}
		if err != nil && p.renew(err) {
			e.notifyReason(p)
		}
		if good >= probesToReturn {
			late, ok := e.restore(p)
			if ok && (len(late) == 0 || Classify(e.probeOnce(limit, p.name)) != Outage) {
				p.reopen()
				e.notify(Change{Partition: p, State: Available, Late: late})
				return
			}
			good = 0
		}
		pause = min(2*pause, probeLast)
		if good > 0 {
			pause = probeFirst
		}
		timer.Reset(jitter(pause))
	}
}

func (e *Engine) probeOnce(limit time.Duration, node string) error {
	ctx, cancel := context.WithTimeout(e.ctx, limit)
	defer cancel()
	return e.probe(ctx, node)
}

// move changes the state while the prober runs.
func (p *Partition) move(to State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.State() != to {
		p.set(to, err)
	}
}

// reopen has the partition used again, and ends its prober.
func (p *Partition) reopen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(Available, nil)
	p.probing, p.reopened = false, time.Now()
}

// leave ends the partition of a node that has no keys any more.
func (p *Partition) leave() {
	p.engine.remove(p)
	p.reopen()
	p.engine.notify(Change{Partition: p, State: Available, Removed: true})
}

// restore has all subscribers get ready. It returns the names of those that
// were not in time, and false if Redis failed meanwhile.
func (e *Engine) restore(p *Partition) (late []string, ok bool) {
	ctx, cancel := context.WithTimeout(e.ctx, RestoreTimeout)
	defer cancel()
	type result struct {
		of  *subscriber
		err error
	}
	list := slices.DeleteFunc(slices.Clone(e.subscribed()), func(s *subscriber) bool { return s.Restore == nil })
	results := make(chan result, len(list))
	pending := map[*subscriber]bool{}
	for _, s := range list {
		pending[s] = true
		if !s.restoring.CompareAndSwap(false, true) {
			continue // it still works at the last one
		}
		go func() {
			defer s.restoring.Store(false)
			results <- result{s, safely(func() error { return s.Restore(ctx, p) })}
		}()
	}
	ok = true
	for len(pending) > 0 {
		select {
		case r := <-results:
			class := Classify(r.err)
			if ctx.Err() != nil && class != Answered {
				continue // out of time: it is late
			}
			delete(pending, r.of)
			ok = ok && class == Answered
		case <-ctx.Done():
			for s := range pending {
				late = append(late, s.Name)
			}
			slices.Sort(late)
			return late, ok && e.ctx.Err() == nil
		}
	}
	return nil, ok
}

func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", errPanic, v)
		}
	}()
	return f()
}

var errPanic = errors.New("panic")

// jitter spreads a time by a fifth in both directions.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
