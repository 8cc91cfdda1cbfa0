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

// exactCall is a decision over a plan with windows or quotas.
type exactCall struct {
	op       string
	key      string // as in Redis, to which each meter adds
	plan     *gcra.Plan
	cost     int64
	costs    []int64 // of each meter, to debit
	at       int64   // nanoseconds since epoch
	wall     time.Time
	decision gcra.Decision
}

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

func (x *exactCall) command(verb, script string) []any {
	keys := meterKeys(x.key, x.plan)
	args := append([]any{verb, script, len(keys)}, keys...)
	args = append(args, x.op, x.cost, strconv.FormatInt(x.at/1000, 10))
	for i, l := range x.plan.Limits() {
		if x.plan.Algorithm() == gcra.Window {
			args = append(args, "w", l.Count, micros(int64(l.Period)))
		} else {
			p := x.plan.Policies()[i]
			args = append(args, "g", micros(p.T), micros(p.Tau))
		}
	}
	for _, q := range x.plan.Quotas() {
		start := q.Unit.Start(x.wall)
		next := q.Unit.Next(x.wall)
		args = append(args, "q", q.Count)
		for _, b := range []time.Time{q.Unit.Start(start.Add(-1)), start, next, q.Unit.Next(next)} {
			args = append(args, strconv.FormatInt(b.Sub(epoch).Microseconds(), 10))
		}
	}
	for _, c := range x.costs {
		args = append(args, c)
	}
	return args
}

// answerExact reads the reply to an exact call.
func (c *call) answerExact(values []any, err error) error {
	if err == nil {
		var numbers []int64
		if numbers, err = (&encoder{}).reply(values); err == nil {
			err = c.exact.read(&reader{numbers})
		}
	}
	c.finish(err)
	return err
}

func (x *exactCall) read(r *reader) error {
	d := &x.decision
	*d = gcra.Decision{Source: gcra.Shared, Len: x.plan.Len()}
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
