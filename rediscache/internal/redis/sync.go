package redis

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/epoch"
)

// synchronise reads the log again and again.
func (e *Epochs) synchronise(ctx context.Context) {
	defer e.done.Done()
	for first := true; ; first = false {
		err := e.sync(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			e.failures.Add(1)
			e.ready.Store(false)
		} else {
			e.ready.Store(true)
			select {
			case e.work <- struct{}{}: // what could not be shared before
			default:
			}
		}
		if first {
			close(e.tried)
		}
		timer := time.NewTimer(e.o.Period)
		select {
		case <-timer.C:
		case <-e.kick:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// sync learns what is new in the log. If the log may have lost something, after a
// FLUSHALL, an eviction or a failover, it is given back what is known here. What
// others give back is older than what was read last, so then all is read again.
func (e *Epochs) sync(ctx context.Context) error {
	first := e.generation == ""
	known := e.synced.Load() // before reading: it grows meanwhile
	since := known
	if first {
		since = 0
	}
	r, err := e.read(ctx, since)
	if err != nil {
		return err
	}
	lost := !first && e.isLost(r, known)
	switch {
	case first:
		// What was invalidated before the log was begun nobody can tell, so what
		// was stored before is not used.
		e.table.Raise(r.birth)
	case lost:
		e.lost.Add(1)
		e.generation = "lost" // so that a failure now is made good later
		if err := e.restore(ctx); err != nil {
			return err
		}
	}
	if lost || !first && r.restored != e.restored {
		since = 0
		if r, err = e.read(ctx, since); err != nil {
			return err
		}
	}
	generation, server, restored := r.generation, r.server, r.restored
	for {
		for _, l := range r.learned {
			e.learn(l.marks, l.epoch)
			since = max(since, l.epoch)
		}
		if r.count < page {
			break
		}
		if r.learned[0].epoch < since {
			since-- // the page may end between two marks of one epoch
		}
		if r, err = e.read(ctx, since); err != nil {
			return err
		}
	}
	raise(&e.synced, since)
	e.table.Advance(since)
	e.generation, e.server, e.restored = generation, server, restored
	return nil
}

// isLost reports whether the log is another than the one known here, or an older
// copy of it.
func (e *Epochs) isLost(r *reading, known uint64) bool {
	return r.created || r.generation != e.generation || r.server != e.server || r.top < known
}

// learn applies those marks that are not known to be as late already.
func (e *Epochs) learn(marks []epoch.Mark, at uint64) {
	news := marks[:0:0]
	for _, m := range marks {
		if e.table.At(m) < at {
			news = append(news, m)
		}
	}
	if len(news) > 0 {
		e.table.Learn(news, at)
		e.learned.Add(int64(len(news)))
	}
}

// listen hears of invalidations as they are made. A message that is lost, or
// that follows one that was lost, is made good by a look at the log.
func (e *Epochs) listen(ctx context.Context) {
	defer e.done.Done()
	sub := e.o.Client.Subscribe(ctx, e.channel())
	defer sub.Close()
	messages := sub.Channel()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			e.hear(m.Payload)
		case <-ctx.Done():
			return
		}
	}
}

func (e *Epochs) hear(payload string) {
	if payload == messageRestored {
		e.look()
		return
	}
	prev, at, from, marks, ok := parseMessage(payload)
	if !ok || from == e.name {
		return
	}
	e.learn(marks, at)
	if e.synced.Load() >= prev {
		raise(&e.synced, at)
		return
	}
	e.look()
}

// look has the log looked at soon.
func (e *Epochs) look() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

func raise(v *atomic.Uint64, to uint64) {
	for {
		was := v.Load()
		if was >= to || v.CompareAndSwap(was, to) {
			return
		}
	}
}
