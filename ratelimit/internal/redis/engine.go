package redis

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/ratelimit/internal/memory"
)

const (
	// Partitions is the number of parts into which keys are divided, so that on
	// a Cluster the decisions of one part can be made by one script.
	Partitions = 64

	// maxInFlight is how many batches may be under way at once: while Redis works
	// at one, the other is on its way.
	maxInFlight = 2

	// maxKeys and maxRequests bound one batch, and with it the time for which one
	// script occupies Redis.
	maxKeys     = 128
	maxRequests = 1024

	// maxQueue bounds the requests that wait for a batch. Beyond it they are
	// decided without Redis at once.
	maxQueue = 1 << 16
)

// Options are the settings of an engine.
type Options struct {
	// Client is the connection, with timeouts and retries fit for the path of a
	// request.
	Client redis.UniversalClient

	// Availability says which parts of Redis can be used. Default: an engine of
	// its own.
	Availability *availability.Engine

	// Cluster is set if one script may only use keys of one hash slot.
	Cluster bool

	// Prefix begins every key.
	Prefix string

	// Instances returns the number of gateways that share this Redis, at least 1.
	// Default: always 1.
	Instances func() int

	// Clock returns nanoseconds that never go back. Default: memory.Monotonic.
	Clock func() int64

	// Wall returns the time of day, for the calendar of quotas. Which period it
	// is, Redis decides by its own. Default: time.Now.
	Wall func() time.Time

	// Observe is called after each batch, with its number of decisions and its
	// duration. Default: none.
	Observe func(decisions int, took time.Duration, err error)

	// OnOutage is called when decisions of some keys begin to be made without
	// Redis, and when Redis makes all of them again. Default: none.
	OnOutage func(down bool)
}

// Engine sends decisions to one Redis. It is shared by all zones of that Redis.
type Engine struct {
	client    redis.UniversalClient
	cluster   bool
	prefix    string
	instances func() int
	clock     func() int64
	wall      func() time.Time
	observe   func(int, time.Duration, error)
	onOutage  func(bool)

	availability *availability.Engine
	unsubscribe  func()
	ownsAvail    bool
	parts        [Partitions]string // hash tags

	mu       sync.Mutex
	queue    []*roundTrip
	inFlight int
	closed   bool
	down     map[*availability.Partition]struct{}

	debts   atomic.Bool  // some units were spent here while Redis was available
	settled atomic.Int64 // when such debts were debited last
	zones   sync.Map     // *Zone → struct{}

	// life ends with Close; everything in the background depends on it.
	life context.Context
	end  context.CancelFunc
	done sync.WaitGroup
}

// NewEngine returns an engine. It sends nothing before it is asked to.
func NewEngine(o Options) *Engine {
	e := &Engine{
		client:    o.Client,
		cluster:   o.Cluster,
		prefix:    o.Prefix,
		instances: o.Instances,
		clock:     o.Clock,
		wall:      o.Wall,
		observe:   o.Observe,
		onOutage:  o.OnOutage,
		down:      map[*availability.Partition]struct{}{},
	}
	if e.instances == nil {
		e.instances = func() int { return 1 }
	}
	if e.clock == nil {
		e.clock = memory.Monotonic
	}
	if e.wall == nil {
		e.wall = time.Now
	}
	if e.observe == nil {
		e.observe = func(int, time.Duration, error) {}
	}
	if e.onOutage == nil {
		e.onOutage = func(bool) {}
	}
	for i := range e.parts {
		e.parts[i] = "{" + strconv.Itoa(i) + "}"
	}
	e.life, e.end = context.WithCancel(context.Background())
	if e.availability = o.Availability; e.availability == nil {
		e.availability, e.ownsAvail = availability.New(availability.Options{Client: o.Client, Prefix: o.Prefix}), true
	}
	e.unsubscribe = e.availability.Subscribe(availability.Subscriber{Name: "ratelimit", Restore: e.restore, Changed: e.changed})
	return e
}

// Close ends all work in the background and waits for it. Zones are closed
// before.
func (e *Engine) Close() {
	e.unsubscribe()
	e.mu.Lock()
	e.closed = true
	outage := len(e.down) > 0
	clear(e.down)
	e.mu.Unlock()
	if outage {
		e.onOutage(false)
	}
	e.end()
	e.done.Wait()
	if e.ownsAvail {
		e.availability.Close()
	}
}

// partition returns the part a key belongs to. It is the same for all
// gateways.
func partition(zone, key string) int {
	return int((xxh3.HashString(zone)*31 + xxh3.HashString(key)) % Partitions)
}

// redisKey is the name of a key in Redis. The braces make a Cluster keep a
// partition in one slot.
func (e *Engine) redisKey(part int, zone, key string) string {
	return e.prefix + ":ratelimit:{" + strconv.Itoa(part) + "}:" + zone + ":" + key
}

// partition returns the part of Redis that has a partition of the keys.
func (e *Engine) partition(part int) *availability.Partition {
	return e.availability.Partition(e.parts[part])
}

// available reports whether Redis can decide about a partition.
func (e *Engine) available(part int) bool { return e.partition(part).Writable() }

// submit queues a round trip. A goroutine that sends batches runs only while there is
// something to send.
func (e *Engine) submit(t *roundTrip) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		t.finish(errClosed)
		return
	}
	if len(e.queue) >= maxQueue {
		e.mu.Unlock()
		t.finish(errBusy)
		return
	}
	e.queue = append(e.queue, t)
	if e.inFlight < maxInFlight {
		e.inFlight++
		e.done.Add(1)
		go e.flush()
	}
	e.mu.Unlock()
}
