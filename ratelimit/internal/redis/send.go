package redis

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
)

// sender is what one sending goroutine needs.
type sender struct {
	trips   []*roundTrip
	encoder encoder
	seen    map[string]struct{}
	parts   [Partitions][]*roundTrip
}

var senderPool = sync.Pool{New: func() any { return &sender{seen: make(map[string]struct{})} }}

// flush sends batches until the queue is empty.
func (e *Engine) flush() {
	defer e.done.Done()
	s := senderPool.Get().(*sender)
	defer senderPool.Put(s)
	for e.next(s) {
		e.send(s)
		clear(s.trips)
		s.trips = s.trips[:0]
	}
}

// next moves the oldest round trips of the queue to the sender. It returns false when
// there are none; the goroutine has then given up its place.
func (e *Engine) next(s *sender) bool {
	clear(s.seen)
	// Callers that are about to ask get the chance to be in this batch.
	runtime.Gosched()
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, t := range e.queue {
		if len(s.trips) == maxRequests {
			break
		}
		for i := range t.calls {
			s.seen[t.calls[i].name] = struct{}{}
		}
		if len(s.seen) > maxKeys && n > 0 {
			break
		}
		n++
		if t.state.Load() == pending {
			s.trips = append(s.trips, t)
		}
	}
	rest := copy(e.queue, e.queue[n:])
	clear(e.queue[rest:])
	e.queue = e.queue[:rest]
	if len(s.trips) == 0 && rest == 0 {
		e.inFlight--
		return false
	}
	return true
}

// send carries out a batch and answers it.
func (e *Engine) send(s *sender) {
	if len(s.trips) == 0 {
		return
	}
	limit := time.Duration(0)
	sent := availability.Call{Began: time.Now(), Write: true, Short: true}
	for _, t := range s.trips {
		limit = max(limit, t.limit)
		sent.Short = sent.Short && t.short
	}
	ctx, cancel := context.WithTimeout(e.life, limit)
	defer cancel()
	began := e.clock()
	err := e.carryOut(ctx, s, func(part int, err error) { e.report(part, sent, err) })
	e.observe(len(s.trips), time.Duration(e.clock()-began), err)
}

// carryOut carries out the round trips of the sender, and returns the first error.
// report is called with the result of each partition.
func (e *Engine) carryOut(ctx context.Context, s *sender, report func(part int, err error)) error {
	for _, t := range s.trips {
		if e.cluster || !t.calls[0].Plan.Simple() {
			return e.sendPipeline(ctx, s, report)
		}
	}
	err := e.sendOne(ctx, s)
	report(0, err)
	return err
}

// report reports the result of a batch. A success is the time to settle debts.
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

// sendOne carries out round trips by one script.
func (e *Engine) sendOne(ctx context.Context, s *sender) error {
	s.encoder.reset()
	for _, t := range s.trips {
		s.encoder.add(t.kind, t.calls)
	}
	values, err := e.process(ctx, redis.NewCmd(ctx, s.encoder.evalsha()...))
	if isNoScript(err) {
		// The server was restarted. Nothing was carried out, so this is not a retry.
		values, err = e.process(ctx, redis.NewCmd(ctx, s.encoder.eval()...))
	}
	return s.encoder.answer(s.trips, values, err)
}

// process carries out a command.
func (e *Engine) process(ctx context.Context, cmd *redis.Cmd) (values []any, err error) {
	if err := guard(func() error { return e.client.Process(ctx, cmd) }); err != nil {
		return nil, err
	}
	return cmd.Slice()
}

// guard makes an error of a panic: go-redis panics where a server announces an
// absurdly long reply, and such a server must not end the gateway.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errReply, p)
		}
	}()
	return f()
}

// answer gives each round trip its part of a reply.
func (e *encoder) answer(trips []*roundTrip, values []any, err error) error {
	var r reader
	if err == nil {
		r.values, err = e.reply(values)
	}
	for _, t := range trips {
		if err == nil {
			err = t.reply.read(&r, t.kind, t.calls)
		}
		t.finish(err)
	}
	return err
}

// unit is what one command of a pipeline carries out.
type unit struct {
	part  int
	trips []*roundTrip
	enc   *encoder // nil: one exact round trip
	cmd   *redis.Cmd
	eval  []any
}

// sendPipeline carries out round trips by one script per partition and one for each
// that is exact, in one pipeline, which a Cluster client spreads over the nodes.
func (e *Engine) sendPipeline(ctx context.Context, s *sender, report func(part int, err error)) error {
	units := e.units(ctx, s)
	e.exec(ctx, units)
	// A node that does not know the script says so for each command; only those
	// are sent again.
	var again []*unit
	for _, u := range units {
		if isNoScript(u.cmd.Err()) {
			u.cmd = redis.NewCmd(ctx, u.eval...)
			again = append(again, u)
		}
	}
	if len(again) > 0 {
		e.exec(ctx, again)
	}
	var first error
	for _, u := range units {
		values, err := u.cmd.Slice()
		if u.enc == nil {
			err = u.trips[0].answerExact(values, err)
		} else {
			err = u.enc.answer(u.trips, values, err)
		}
		report(u.part, err)
		first = cmp.Or(first, err)
	}
	return first
}

// units divides the round trips of the sender among commands.
func (e *Engine) units(ctx context.Context, s *sender) (units []*unit) {
	for i := range s.parts {
		s.parts[i] = s.parts[i][:0]
	}
	for _, t := range s.trips {
		part := t.calls[0].part
		if !t.calls[0].Plan.Simple() {
			wall := e.wall()
			units = append(units, &unit{
				part: part, trips: []*roundTrip{t},
				cmd:  redis.NewCmd(ctx, t.exactCommand("evalsha", exactScript.Hash(), wall)...),
				eval: t.exactCommand("eval", exactSource, wall),
			})
			continue
		}
		if !e.cluster {
			part = 0
		}
		s.parts[part] = append(s.parts[part], t)
	}
	for part, trips := range s.parts[:] {
		if len(trips) == 0 {
			continue
		}
		enc := &encoder{}
		enc.reset()
		for _, t := range trips {
			enc.add(t.kind, t.calls)
		}
		units = append(units, &unit{
			part: part, trips: trips, enc: enc,
			cmd:  redis.NewCmd(ctx, slices.Clone(enc.evalsha())...),
			eval: slices.Clone(enc.eval()),
		})
	}
	return units
}

// exec sends the commands of the units in one pipeline.
func (e *Engine) exec(ctx context.Context, units []*unit) {
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
