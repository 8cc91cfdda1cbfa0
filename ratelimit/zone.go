package ratelimit

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
	redisstore "github.com/pythopus/tentagate/ratelimit/internal/redis"
)

// zones are the counters, by where they are kept and the zone's name, so that
// they survive a reload, whatever else it changes. engines are what sends
// decisions to each Redis.
var (
	zones   = caddy.NewUsagePool()
	engines = caddy.NewUsagePool()
)

// closeTimeout bounds how long leased units are being returned at shutdown.
const closeTimeout = time.Second

// zone is the state of one zone.
type zone struct {
	name        string           // under which counters are kept
	memory      *memory.Store    // nil: in Redis
	redis       *redisstore.Zone // nil: in memory
	engine      *engine
	concurrency concurrency
	hot         hottest

	mu       sync.Mutex
	handlers map[*Handler]struct{}
	label    string // what it is called
}

// engine is a redis engine in the pool.
type engine struct {
	*redisstore.Engine
	key     string
	release func()
}

// Destruct ends the engine's work in the background.
func (e *engine) Destruct() error {
	e.Close()
	e.release()
	return nil
}

// attach finds the state of the handler's zone, which is kept under the name, or
// makes it.
func (h *Handler) attach(gateway *app.App, name string) error {
	connection := gateway.Redis()
	if h.Store == storeMemory {
		connection = nil
	} else if h.Store == storeRedis && connection == nil {
		return errNoRedis
	}
	h.instances = func() int { return 1 }
	h.metrics = metricsOf(h.Zone)
	key := "memory/" + name
	if connection != nil {
		h.instances = connection.Instances
		key = "redis/" + connection.Key() + "/" + gateway.KeyPrefix() + "/" + name
	}
	val, loaded, err := zones.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newZone(h, name, gateway, connection)
	})
	if err != nil {
		return err
	}
	h.zone, h.zoneKey = val.(*zone), key
	h.zone.mu.Lock()
	h.zone.handlers[h] = struct{}{}
	h.zone.label = h.Zone
	h.zone.mu.Unlock()
	if loaded {
		h.zone.setMaxKeys(h.MaxKeys)
	}
	return nil
}

// detach releases what attach acquired.
func (h *Handler) detach() {
	if h.zoneKey == "" {
		return
	}
	h.zone.mu.Lock()
	delete(h.zone.handlers, h)
	h.zone.mu.Unlock()
	if _, err := zones.Delete(h.zoneKey); err != nil && h.logger != nil {
		h.logger.Error("releasing the counters of a zone", zap.String("zone", h.Zone), zap.Error(err))
	}
	h.zoneKey = ""
}

func newZone(h *Handler, name string, gateway *app.App, connection *app.Redis) (*zone, error) {
	z := &zone{name: name, handlers: make(map[*Handler]struct{})}
	if connection == nil {
		z.memory = memory.New(memory.Options{MaxKeys: h.MaxKeys})
		return z, nil
	}
	key := connection.Key() + "/" + gateway.KeyPrefix()
	logger := caddy.Log().Named("tentagate.ratelimit")
	val, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		// Leases are returned at the very end.
		return &engine{key: key, release: connection.Retain(), Engine: redisstore.NewEngine(redisstore.Options{
			Client:    connection.Client(),
			Cluster:   connection.Cluster(),
			Prefix:    gateway.KeyPrefix(),
			Instances: connection.Instances,
			Observe:   observeBatch,
			OnOutage: func(down bool, err error) {
				observeOutage(down)
				if down {
					logger.Warn("redis does not answer; each zone decides as its on_store_error says", zap.Error(err))
				} else {
					logger.Info("redis answers again; limits are shared again")
				}
			},
		})}, nil
	})
	if err != nil {
		return nil, err
	}
	z.engine = val.(*engine)
	z.redis = z.engine.NewZone(name, h.MaxKeys)
	return z, nil
}

// Destruct ends the zone when the last configuration that uses it is gone.
func (z *zone) Destruct() error {
	if z.redis == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	z.redis.Close(ctx)
	_, err := engines.Delete(z.engine.key)
	return err
}

func (z *zone) setMaxKeys(n int) {
	if z.redis != nil {
		z.redis.SetMaxKeys(n)
		return
	}
	z.memory.SetMaxKeys(n)
}

func (z *zone) evictions() uint64 {
	if z.redis != nil {
		return z.redis.Evictions()
	}
	return z.memory.Evictions()
}

// call is the check as the Redis store sees it.
func (c *check) call() redisstore.Call {
	budget := time.Duration(c.h.Budget)
	if budget <= 0 {
		budget = redisstore.DefaultBudget
	}
	if budget -= c.chain.waited; budget <= 0 {
		budget = -1
	}
	return redisstore.Call{
		Zone:     c.h.zone.redis,
		Key:      c.key,
		Plan:     c.tier.plan,
		Cost:     c.cost,
		OnError:  c.h.OnStoreError,
		Budget:   budget,
		Leased:   c.h.Mode == modeLeased,
		Decision: &c.decision,
	}
}

// decide asks the zone's store.
func (z *zone) decide(c *check) {
	c.decided = time.Now()
	if z.redis != nil {
		call := c.call()
		call.Decide()
		took := time.Since(c.decided)
		c.chain.waited += took
		c.h.metrics.latency.Observe(took.Seconds())
	} else {
		z.memory.Decide(c.key, c.tier.plan, c.cost, &c.decision)
	}
	c.counted = c.decision.Admitted()
}

// peek looks whether there are units, as far as this gateway knows without
// asking Redis, and takes none.
func (z *zone) peek(c *check) {
	c.decided = time.Now()
	if z.redis != nil {
		call := c.call()
		call.PeekLocal()
		return
	}
	z.memory.Peek(c.key, c.tier.plan, c.cost, &c.decision)
}

// refund gives back what decide took.
func (z *zone) refund(c *check) {
	if z.redis != nil {
		call := c.call()
		call.Refund(c.decision.At, c.decision.Source)
		return
	}
	z.memory.Refund(c.key, c.tier.plan, c.cost, c.decision.At)
}

// called returns what the zone is called in the latest configuration.
func (z *zone) called() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.label
}

// plans returns the plans of all handlers of the zone.
func (z *zone) plans() []*gcra.Plan {
	z.mu.Lock()
	defer z.mu.Unlock()
	var plans []*gcra.Plan
	for h := range z.handlers {
		for _, t := range h.tiers {
			if t.plan != nil {
				plans = append(plans, t.plan)
			}
		}
	}
	return plans
}

// Interface guards
var (
	_ caddy.Destructor = (*zone)(nil)
	_ caddy.Destructor = (*engine)(nil)
)
