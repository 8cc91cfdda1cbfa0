package redis

import (
	"context"
	"errors"
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

	// maxSubjects and maxRequests bound one batch, and with it the time for which
	// one script occupies Redis.
	maxSubjects = 128
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

	// Cluster tells that one script may only use keys of one hash slot.
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

	// Observe is told of every batch: its number of decisions and how long it
	// took. Default: nobody is.
	Observe func(decisions int, took time.Duration, err error)

	// OnOutage is called when decisions of some keys begin to be made without
	// Redis, and when Redis makes all of them again. Default: nobody is.
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
	queue    []*call
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

// partition returns the part a subject belongs to. It is the same for all
// gateways.
func partition(zone, key string) int {
	return int((xxh3.HashString(zone)*31 + xxh3.HashString(key)) % Partitions)
}

// redisKey is the name of a subject in Redis. The braces make a Cluster keep a
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

// errTimeout tells that Redis did not answer within the budget.
var errTimeout = errors.New("redis did not answer within the budget")

// errBusy tells that too many requests wait already.
var errBusy = errors.New("too many requests wait for redis")

// errClosed tells that the engine ends.
var errClosed = errors.New("the connection is closed")

// call is a request on its way to Redis.
type call struct {
	kind     kind
	subjects []subject
	one      [1]subject
	exact    *exactCall
	budget   time.Duration
	short    bool // much less than the usual budget
	reply    reply
	err      error
	state    atomic.Int32
	done     chan struct{}
}

// States of a call. Whoever moves it from pending owns it.
const (
	pending int32 = iota
	answered
	abandoned
)

var callPool = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// newCall returns a call for one subject; release gives it back.
func newCall(k kind, s subject, budget time.Duration) *call {
	c := callPool.Get().(*call)
	c.kind, c.one[0], c.budget, c.short = k, s, budget, false
	c.subjects = c.one[:]
	c.exact, c.err = nil, nil
	c.state.Store(pending)
	return c
}

func (c *call) release() {
	c.one[0], c.subjects, c.exact = subject{}, nil, nil
	callPool.Put(c)
}

var timerPool = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// do sends a call and waits for its answer, no longer than its budget; the wait
// is charged to the request. When it returns errTimeout the call must not be used
// again: Redis may still carry it out.
func (e *Engine) do(c *call, request *availability.Budget) error {
	began := e.clock()
	defer func() { request.Spend(time.Duration(e.clock() - began)) }()
	e.submit(c)
	timer := timerPool.Get().(*time.Timer)
	timer.Reset(c.budget)
	defer func() {
		timer.Stop()
		timerPool.Put(timer)
	}()
	select {
	case <-c.done:
		return c.err
	case <-timer.C:
		if c.state.CompareAndSwap(pending, abandoned) {
			return errTimeout
		}
		<-c.done
		return c.err
	}
}

// submit queues a call. A goroutine that sends batches runs only while there is
// something to send.
func (e *Engine) submit(c *call) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		c.finish(errClosed)
		return
	}
	if len(e.queue) >= maxQueue {
		e.mu.Unlock()
		c.finish(errBusy)
		return
	}
	e.queue = append(e.queue, c)
	spawn := e.inFlight < maxInFlight
	if spawn {
		e.inFlight++
		e.done.Add(1)
	}
	e.mu.Unlock()
	if spawn {
		go e.flush()
	}
}
