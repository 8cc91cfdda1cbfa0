package redis

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
)

// sender is what one sending goroutine needs.
type sender struct {
	calls   []*call
	encoder encoder
	seen    map[string]struct{}
	parts   [Partitions][]*call
}

var senderPool = sync.Pool{New: func() any { return &sender{seen: make(map[string]struct{})} }}

// flush sends batches until the queue is empty.
func (e *Engine) flush() {
	defer e.done.Done()
	s := senderPool.Get().(*sender)
	defer senderPool.Put(s)
	for e.next(s) {
		e.send(s)
		clear(s.calls)
		s.calls = s.calls[:0]
	}
}

// next moves the oldest calls of the queue to the sender. It returns false when
// there are none; the goroutine has then given up its place.
func (e *Engine) next(s *sender) bool {
	clear(s.seen)
	// Callers that are about to ask get the chance to be in this batch.
	runtime.Gosched()
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, c := range e.queue {
		if len(s.calls) == maxRequests {
			break
		}
		for i := range c.subjects {
			s.seen[c.subjects[i].key] = struct{}{}
		}
		if len(s.seen) > maxSubjects && n > 0 {
			break
		}
		n++
		if c.state.Load() == pending {
			s.calls = append(s.calls, c)
		}
	}
	rest := copy(e.queue, e.queue[n:])
	clear(e.queue[rest:])
	e.queue = e.queue[:rest]
	if len(s.calls) == 0 && rest == 0 {
		e.inFlight--
		return false
	}
	return true
}

// send carries out the calls of a batch and answers them.
func (e *Engine) send(s *sender) {
	if len(s.calls) == 0 {
		return
	}
	budget := time.Duration(0)
	simple := !e.cluster
	sent := availability.Call{Began: time.Now(), Write: true, Short: true}
	for _, c := range s.calls {
		budget = max(budget, c.budget)
		sent.Short = sent.Short && c.short
		simple = simple && c.exact == nil
	}
	ctx, cancel := context.WithTimeout(e.life, budget)
	defer cancel()
	began := e.clock()
	var err error
	if simple {
		err = e.sendOne(ctx, s, s.calls)
		e.report(0, sent, err)
	} else {
		err = e.sendPipeline(ctx, s, sent)
	}
	e.observe(len(s.calls), time.Duration(e.clock()-began), err)
}

// report tells how a batch ended. A success is the time to settle debts.
func (e *Engine) report(part int, sent availability.Call, err error) {
	if e.life.Err() != nil {
		return
	}
	e.partition(part).Report(sent, refused(err))
	if err == nil && e.debts.Load() {
		e.settleSoon()
	}
}

// refused makes a refusal of an error reply to a script, which has to work. Only
// a key that holds another type is that key's own matter.
func refused(err error) error {
	if err != nil && availability.Classify(err) == availability.Answered && !strings.HasPrefix(err.Error(), "WRONGTYPE ") {
		return fmt.Errorf("%w: %w", availability.ErrRefused, err)
	}
	return err
}

// sendOne carries out calls by one script.
func (e *Engine) sendOne(ctx context.Context, s *sender, calls []*call) error {
	s.encoder.reset()
	for _, c := range calls {
		s.encoder.add(c.kind, c.subjects)
	}
	cmd := redis.NewCmd(ctx, s.encoder.evalsha()...)
	values, err := e.process(ctx, cmd)
	if isNoScript(err) {
		// The server was restarted. Nothing was carried out, so this is no retry.
		values, err = e.process(ctx, redis.NewCmd(ctx, s.encoder.eval()...))
	}
	return s.encoder.answer(calls, values, err)
}

// process carries out a command.
func (e *Engine) process(ctx context.Context, cmd *redis.Cmd) (values []any, err error) {
	if err := guard(func() error { return e.client.Process(ctx, cmd) }); err != nil {
		return nil, err
	}
	return cmd.Slice()
}

// guard makes an error of a panic: go-redis panics where a server announces an
// absurdly long reply, and what speaks so must not end the gateway.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errReply, p)
		}
	}()
	return f()
}

// answer gives each call its part of a reply.
func (e *encoder) answer(calls []*call, values []any, err error) error {
	var r reader
	if err == nil {
		r.values, err = e.reply(values)
	}
	for _, c := range calls {
		if err == nil {
			err = c.reply.read(&r, c.kind, c.subjects)
		}
		c.finish(err)
	}
	return err
}

// finish wakes whoever waits for the call.
func (c *call) finish(err error) {
	// Once the state has changed the waiter may reuse the call, but not before it
	// was woken.
	c.err = err
	if c.state.CompareAndSwap(pending, answered) {
		c.done <- struct{}{}
	}
}

// sendPipeline carries out calls by one script per partition and one for each
// exact call, in one pipeline, which a Cluster client spreads over the nodes.
func (e *Engine) sendPipeline(ctx context.Context, s *sender, sent availability.Call) error {
	type unit struct {
		part  int
		calls []*call
		enc   *encoder // nil: an exact call
		cmd   *redis.Cmd
		eval  []any
	}
	var units []unit
	for i := range s.parts {
		s.parts[i] = s.parts[i][:0]
	}
	for _, c := range s.calls {
		if c.exact != nil {
			part := c.subjects[0].part
			units = append(units, unit{part: part, calls: []*call{c}, cmd: redis.NewCmd(ctx, c.exact.command("evalsha", exactScript.Hash())...), eval: c.exact.command("eval", exactSource)})
			continue
		}
		part := 0
		if e.cluster {
			part = c.subjects[0].part
		}
		s.parts[part] = append(s.parts[part], c)
	}
	for part, calls := range s.parts[:] {
		if len(calls) == 0 {
			continue
		}
		enc := &encoder{}
		enc.reset()
		for _, c := range calls {
			enc.add(c.kind, c.subjects)
		}
		units = append(units, unit{
			part: part, calls: calls, enc: enc,
			cmd:  redis.NewCmd(ctx, append([]any(nil), enc.evalsha()...)...),
			eval: append([]any(nil), enc.eval()...),
		})
	}
	exec := func(units []*unit) {
		pipe := e.client.Pipeline()
		for _, u := range units {
			_ = pipe.Process(ctx, u.cmd)
		}
		if err := guard(func() error { _, err := pipe.Exec(ctx); return err }); err != nil {
			for _, u := range units {
				if u.cmd.Err() == nil && u.cmd.Val() == nil {
					u.cmd.SetErr(err) // it was not even tried
				}
			}
		}
	}
	all := make([]*unit, len(units))
	for i := range units {
		all[i] = &units[i]
	}
	exec(all)
	// A node that does not know the script says so for each command; only those
	// are sent again.
	var again []*unit
	for _, u := range all {
		if isNoScript(u.cmd.Err()) {
			u.cmd = redis.NewCmd(ctx, u.eval...)
			again = append(again, u)
		}
	}
	if len(again) > 0 {
		exec(again)
	}
	var first error
	for _, u := range all {
		values, err := u.cmd.Slice()
		if u.enc == nil {
			err = u.calls[0].answerExact(values, err)
		} else {
			err = u.enc.answer(u.calls, values, err)
		}
		e.report(u.part, sent, err)
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}
