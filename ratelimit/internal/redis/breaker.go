package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// A breaker opens after so many failures in a row …
	tripConsecutive = 5

	// … or when more than half of at least so many batches within tripWindow
	// failed.
	tripVolume = 10
	tripWindow = time.Second

	// probeFirst and probeMost bound the time between two probes. The latter also
	// bounds how late a recovery is noticed.
	probeFirst = 100 * time.Millisecond
	probeMost  = 500 * time.Millisecond

	// probesToClose is how many probes in a row have to succeed, so that a
	// flapping server does not take the requests with it.
	probesToClose = 3
)

// breaker keeps requests from waiting for a server that does not answer. It has
// no half-open state of its own: a single prober finds out when the server is
// back, and requests are never used for that.
type breaker struct {
	mu          sync.Mutex
	open        bool
	consecutive int
	since       int64
	total, bad  int
	good        int // probes in a row
}

// reachable reports whether requests may be sent for a partition.
func (e *Engine) reachable(part int) bool {
	if e.open.Load() == 0 {
		return true
	}
	b := e.breaker(part)
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.open
}

// report notes the outcome of a batch.
func (b *breaker) report(e *Engine, part int, err error) {
	if err != nil && (errors.Is(err, context.Canceled) || e.life.Err() != nil) {
		return
	}
	now := e.clock()
	b.mu.Lock()
	if b.open {
		b.mu.Unlock()
		return
	}
	if now-b.since > int64(tripWindow) {
		b.since, b.total, b.bad = now, 0, 0
	}
	b.total++
	if err == nil {
		b.consecutive = 0
		b.mu.Unlock()
		if e.owing.Load() {
			e.settleSoon()
		}
		return
	}
	b.bad++
	b.consecutive++
	trip := b.consecutive >= tripConsecutive || b.total >= tripVolume && b.bad*2 > b.total
	if trip {
		b.open, b.good = true, 0
	}
	b.mu.Unlock()
	if trip {
		if e.open.Add(1) == 1 {
			e.onOutage(true, err)
		}
		e.prober.start(e)
	}
}

// close lets requests through again.
func (b *breaker) close(e *Engine) {
	b.mu.Lock()
	b.open, b.consecutive, b.since, b.total, b.bad = false, 0, 0, 0, 0
	b.mu.Unlock()
	if e.open.Add(-1) == 0 {
		e.onOutage(false, nil)
	}
}

// prober looks, alone for all requests, whether the server is back.
type prober struct {
	mu      sync.Mutex
	running bool
}

func (p *prober) start(e *Engine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running || e.life.Err() != nil {
		return
	}
	p.running = true
	e.done.Add(1)
	go p.run(e)
}

func (p *prober) run(e *Engine) {
	defer e.done.Done()
	pause := probeFirst
	timer := time.NewTimer(jitter(pause))
	defer timer.Stop()
	for {
		select {
		case <-e.life.Done():
			return
		case <-timer.C:
		}
		if e.probe() {
			pause = probeFirst
		} else {
			pause = min(2*pause, probeMost)
		}
		p.mu.Lock()
		if e.open.Load() == 0 {
			p.running = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		timer.Reset(jitter(pause))
	}
}

// probe asks every part that is given up for a decision that writes: a replica
// that only reads is of no use. It reports whether all answered.
func (e *Engine) probe() bool {
	ctx, cancel := context.WithTimeout(e.life, 4*DefaultBudget)
	defer cancel()
	pipe := e.client.Pipeline()
	cmds := make(map[int]*redis.Cmd)
	for part := range e.breakers {
		b := &e.breakers[part]
		b.mu.Lock()
		open := b.open
		b.mu.Unlock()
		if open {
			cmd := redis.NewCmd(ctx, "eval", decideSource, 1, e.redisKey(part, "", "probe"), 1, 1, 1000, 1000, -1, 2, 1, 1)
			cmds[part] = cmd
			_ = pipe.Process(ctx, cmd)
		}
	}
	failed := guard(func() error { _, err := pipe.Exec(ctx); return err })
	good := true
	for part, cmd := range cmds {
		b := &e.breakers[part]
		b.mu.Lock()
		if cmd.Err() != nil || failed != nil && cmd.Val() == nil {
			b.good, good = 0, false
		} else {
			b.good++
		}
		ready := b.good >= probesToClose
		b.mu.Unlock()
		// What was spent in the meantime comes first, so that nobody can spend it
		// twice.
		if ready && e.settle(func(p int) bool { return !e.cluster || p == part }, true) {
			b.close(e)
		}
	}
	return good
}
