package ratelimit

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/internal/pool"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
	redisstore "github.com/pythopus/tentagate/ratelimit/internal/redis"
)

// zones are kept by store and zone id, and survive reloads. engines are kept by
// Redis connection and key prefix.
var (
	zones   = pool.New((*zone).close)
	engines = pool.New((*engine).close)
)

// closeTimeout bounds the return of leased units at shutdown.
const closeTimeout = time.Second

// zone is the state of one zone. Its counters are either in memory or in Redis.
type zone struct {
	id          string // of its counters, see zoneID
	memory      *memory.Store
	redis       *redisstore.Zone
	engine      *pool.Ref[*engine]
	concurrency concurrency
	topKeys     topKeys

	mu       sync.Mutex
	handlers map[*Handler]struct{}
	name     string // that of the latest configuration
}

// engine is a Redis engine in the pool.
type engine struct {
	*redisstore.Engine
	release func()
}

// close stops the engine's background work.
func (e *engine) close() error {
	e.Close()
	e.release()
	return nil
}

// attach finds or makes the state of the handler's zone.
func (h *Handler) attach(gateway *app.App, id string) error {
	connection := gateway.Redis()
	if h.Store == storeMemory {
		connection = nil
	} else if h.Store == storeRedis && connection == nil {
		return errNoRedis
	}
	h.instances = func() int { return 1 }
	h.metrics = metricsOf(h.Zone)
	key := "memory/" + id
	if connection != nil {
		h.instances = connection.Instances
		connection.Availability().Expect(time.Duration(h.Budget))
		key = "redis/" + connection.Key() + "/" + gateway.KeyPrefix() + "/" + id
	}
	ref, err := zones.Acquire(key, func() (*zone, error) {
		return newZone(id, h.MaxKeys, gateway, connection)
	})
	if err != nil {
		return err
	}
	h.zone, h.zoneRef = ref.Value, ref
	h.zone.mu.Lock()
	h.zone.handlers[h] = struct{}{}
	h.zone.name = h.Zone
	h.zone.mu.Unlock()
	if ref.Loaded {
		h.zone.counters().SetMaxKeys(h.MaxKeys)
	}
	return nil
}

// detach releases what attach acquired.
func (h *Handler) detach() {
	if h.zoneRef == nil {
		return
	}
	h.zone.mu.Lock()
	delete(h.zone.handlers, h)
	h.zone.mu.Unlock()
	if err := h.zoneRef.Release(); err != nil && h.logger != nil {
		h.logger.Error("releasing a zone", zap.String("zone", h.Zone), zap.Error(err))
	}
	h.zoneRef = nil
}

func newZone(id string, maxKeys int, gateway *app.App, connection *app.Redis) (*zone, error) {
	z := &zone{id: id, handlers: make(map[*Handler]struct{})}
	if connection == nil {
		z.memory = memory.New(memory.Options{MaxKeys: maxKeys})
		return z, nil
	}
	key := connection.Key() + "/" + gateway.KeyPrefix()
	ref, err := engines.Acquire(key, func() (*engine, error) {
		// Leases are returned at the very end.
		return &engine{release: connection.Retain(), Engine: redisstore.NewEngine(redisstore.Options{
			Client:       connection.Client(),
			Availability: connection.Availability(),
			Cluster:      connection.Cluster(),
			Prefix:       gateway.KeyPrefix(),
			Instances:    connection.Instances,
			Observe:      observeBatch,
			OnOutage:     observeOutage,
		})}, nil
	})
	if err != nil {
		return nil, err
	}
	z.engine = ref
	z.redis = ref.Value.NewZone(id, maxKeys)
	return z, nil
}

// close ends the zone when no configuration uses it any more.
func (z *zone) close() error {
	if z.redis == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	z.redis.Close(ctx)
	return z.engine.Release()
}

// counters are what the zone counts with.
func (z *zone) counters() interface {
	SetMaxKeys(n int)
	Evictions() uint64
} {
	if z.redis != nil {
		return z.redis
	}
	return z.memory
}

// displayName is the name of the zone in the latest configuration.
func (z *zone) displayName() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.name
}
