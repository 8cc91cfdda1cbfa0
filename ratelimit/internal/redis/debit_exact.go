package redis

import (
	"cmp"
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// exactDebit is what a key with windows or quotas spent without Redis.
type exactDebit struct {
	key   string
	spent spentUnits
	call  exactCall
	cmd   *redis.Cmd
}

// debitExact carries out debits, in one pipeline. Units are entered as of now:
// a window then holds them a little longer than it has to, never shorter. What
// failed is remembered for the next try.
func (z *Zone) debitExact(ctx context.Context, debits []*exactDebit, longAgo bool) error {
	e := z.engine
	ctx, cancel := context.WithTimeout(ctx, debitTimeout)
	defer cancel()
	var tried []*exactDebit
	for _, d := range debits {
		d.call = exactCall{op: "debit", key: e.redisKey(partition(z.name, d.key), z.name, d.key), plan: d.spent.plan, wall: e.wall()}
		if d.call.costs = z.outstandingExact(d.key, d.spent, longAgo); d.call.costs != nil {
			tried = append(tried, d)
		}
	}
	for _, verb := range []string{"evalsha", "eval"} {
		script := exactScript.Hash()
		if verb == "eval" {
			script = exactSource
		}
		pipe := e.client.Pipeline()
		for _, d := range tried {
			if d.cmd == nil || isNoScript(d.cmd.Err()) {
				d.cmd = redis.NewCmd(ctx, d.call.command(verb, script)...)
				_ = pipe.Process(ctx, d.cmd)
			}
		}
		if pipe.Len() == 0 {
			break
		}
		if err := guard(func() error { _, err := pipe.Exec(ctx); return err }); err != nil {
			for _, d := range tried {
				if d.cmd.Err() == nil && d.cmd.Val() == nil {
					d.cmd.SetErr(err)
				}
			}
		}
	}
	var first error
	for _, d := range tried {
		if err := d.cmd.Err(); err != nil {
			z.spent.add(d.key, d.spent.plan, d.spent.units)
			first = cmp.Or(first, err)
		}
	}
	return first
}

// outstandingExact returns the units of each meter that are to be debited, nil
// for none. Of what was spent longer ago that is what the local windows still
// hold and the quotas of this period count.
func (z *Zone) outstandingExact(key string, u spentUnits, longAgo bool) []int64 {
	costs := make([]int64, u.plan.Len())
	if !longAgo {
		for i := range costs {
			costs[i] = u.units
		}
		return costs
	}
	share := u.plan.Share(z.engine.instances())
	var d gcra.Decision
	z.local.Peek(key, share, 0, &d)
	some := false
	for i := range costs {
		costs[i] = min(u.units, share.Capacity(i)-d.Meters[i].Remaining)
		some = some || costs[i] > 0
	}
	if !some {
		return nil
	}
	return costs
}
