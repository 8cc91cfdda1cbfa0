package redis

import (
	"context"
	"slices"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
)

// Zone is a set of keys in Redis. It is safe for concurrent use.
type Zone struct {
	engine *Engine
	name   string

	// local holds what was last seen of each key, and decides during an outage.
	local   *memory.Store
	denials denials
	spent   spending
	leases  leases
}

// NewZone returns the zone of that name.
func (e *Engine) NewZone(name string, maxKeys int) *Zone {
	z := &Zone{
		engine: e,
		name:   name,
		local:  memory.New(memory.Options{MaxKeys: maxKeys, Clock: e.clock, Wall: e.wall}),
	}
	z.leases.init()
	e.zones.Store(z, struct{}{})
	return z
}

// Close gives leased units back and detaches the zone from its engine.
func (z *Zone) Close(ctx context.Context) {
	z.returnLeases(ctx)
	z.engine.zones.Delete(z)
}

// SetMaxKeys changes how many keys are remembered for an outage.
func (z *Zone) SetMaxKeys(n int) { z.local.SetMaxKeys(n) }

// Evictions returns how many active keys were evicted.
func (z *Zone) Evictions() uint64 { return z.local.Evictions() }

// Reset forgets a key in Redis and here, under every plan it may have been counted
// by. It reports whether there was anything to forget. If Redis cannot be asked, the
// key is not forgotten here either.
func (z *Zone) Reset(ctx context.Context, key string, plans []*gcra.Plan) (bool, error) {
	part := partition(z.name, key)
	name := z.engine.redisKey(part, z.name, key)
	names := []string{name}
	for _, plan := range plans {
		if !plan.Simple() {
			for _, k := range meterKeys(name, plan) {
				names = append(names, k.(string))
			}
		}
	}
	slices.Sort(names)
	n, err := z.engine.client.Del(ctx, slices.Compact(names)...).Result()
	if err != nil {
		return false, err
	}
	z.denials.forget(key)
	z.dropLease(key)
	local := z.local.Reset(key)
	return n > 0 || local, nil
}
