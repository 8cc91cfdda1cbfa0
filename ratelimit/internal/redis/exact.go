package redis

import (
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

//go:embed exact.lua
var exactSource string

var exactScript = redis.NewScript(exactSource)

// epoch is the zero of the times in Redis.
var epoch = time.Unix(1735689600, 0)

// meterKeys returns the keys of a plan's meters.
func meterKeys(key string, plan *gcra.Plan) []any {
	keys := make([]any, 0, plan.Len())
	letter := ":g"
	if plan.Algorithm() == gcra.Window {
		letter = ":w"
	}
	for i := range plan.Limits() {
		keys = append(keys, key+letter+strconv.Itoa(i))
	}
	for _, q := range plan.Quotas() {
		keys = append(keys, key+":q"+string(q.Unit))
	}
	return keys
}

// exactCommand returns the command for a plan with windows or quotas, at a time of
// day.
func (t *roundTrip) exactCommand(verb, script string, wall time.Time) []any {
	c := &t.calls[0]
	op, cost := "take", c.Cost
	switch {
	case t.kind == debit:
		op = "debit"
	case cost < 0:
		op, cost = "refund", -cost
	}
	keys := meterKeys(c.name, c.Plan)
	args := append([]any{verb, script, len(keys)}, keys...)
	args = append(args, op, cost, strconv.FormatInt(t.at/1000, 10))
	for i, l := range c.Plan.Limits() {
		if c.Plan.Algorithm() == gcra.Window {
			args = append(args, "w", l.Count, micros(int64(l.Period)))
		} else {
			p := c.Plan.Policies()[i]
			args = append(args, "g", micros(p.T), micros(p.Tau))
		}
	}
	for _, q := range c.Plan.Quotas() {
		start := q.Unit.Start(wall)
		next := q.Unit.Next(wall)
		args = append(args, "q", q.Count)
		for _, b := range []time.Time{q.Unit.Start(start.Add(-1)), start, next, q.Unit.Next(next)} {
			args = append(args, strconv.FormatInt(b.Sub(epoch).Microseconds(), 10))
		}
	}
	for _, units := range t.costs {
		args = append(args, units)
	}
	return args
}

// answerExact reads the reply to the exact command.
func (t *roundTrip) answerExact(values []any, err error) error {
	if err == nil {
		var numbers []int64
		if numbers, err = (&encoder{}).reply(values); err == nil {
			err = t.readExact(&reader{numbers})
		}
	}
	t.finish(err)
	return err
}

func (t *roundTrip) readExact(r *reader) error {
	d := &gcra.Decision{Source: gcra.Shared, Len: t.calls[0].Plan.Len()}
	t.exact = d
	var err error
	if d.Wait, err = r.micros(); err != nil {
		return err
	}
	if d.At, err = r.micros(); err != nil {
		return err
	}
	for i := range d.Len {
		m := &d.Meters[i]
		if m.Remaining, err = r.next(); err != nil {
			return err
		}
		if m.Reset, err = r.micros(); err != nil {
			return err
		}
		over, err := r.next()
		if err != nil {
			return err
		}
		m.Over = over != 0
		if m.Remaining < 0 || m.Reset < 0 {
			return fmt.Errorf("%w: a negative meter", errReply)
		}
	}
	if d.Wait < 0 {
		return fmt.Errorf("%w: a negative wait", errReply)
	}
	return nil
}
