package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/zeebo/xxh3"

	"github.com/pythopus/tentagate/ratelimit/memory"
)

const (
	// Partitions is the number of parts into which keys are divided, so that on
	// a Cluster the decisions of one part can be made by one script.
	Partitions = 64

	// DefaultBudget is the longest a decision waits for Redis.
	DefaultBudget = 25 * time.Millisecond

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

	// OnOutage is told when Redis becomes unreachable and when it is back.
	// Default: nobody is.
	OnOutage func(down bool, err error)
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
	onOutage  func(bool, error)

	mu       sync.Mutex
	queue    []*call
	inFlight int
	closed   bool

	breakers [Partitions]breaker
	open     atomic.Int64 // breakers that are
	prober   prober
	zones    sync.Map // *Zone → struct{}

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
		e.onOutage = func(bool, error) {}
	}
	e.life, e.end = context.WithCancel(context.Background())
	return e
}

// Close ends all work in the background and waits for it. Zones are closed
// before.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.prober.mu.Lock()
	e.end()
	e.prober.mu.Unlock()
	e.done.Wait()
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

// breaker returns the breaker for a partition. Only on a Cluster can some be
// unreachable and others not.
func (e *Engine) breaker(part int) *breaker {
	if !e.cluster {
		part = 0
	}
	return &e.breakers[part]
}

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
	c.kind, c.one[0], c.budget = k, s, budget
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

// do sends a call and waits for its answer, no longer than its budget. When it
// returns errTimeout the call must not be used again: Redis may still carry it
// out.
func (e *Engine) do(c *call) error {
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
	for _, c := range s.calls {
		budget = max(budget, c.budget)
		simple = simple && c.exact == nil
	}
	ctx, cancel := context.WithTimeout(e.life, budget)
	defer cancel()
	began := e.clock()
	var err error
	if simple {
		err = e.sendOne(ctx, s, s.calls)
		e.breaker(0).report(e, 0, err)
	} else {
		err = e.sendPipeline(ctx, s)
	}
	e.observe(len(s.calls), time.Duration(e.clock()-began), err)
}

// sendOne carries out calls by one script.
func (e *Engine) sendOne(ctx context.Context, s *sender, calls []*call) error {
	s.encoder.reset()
	for _, c := range calls {
		s.encoder.add(c.kind, c.subjects)
	}
	cmd := redis.NewCmd(ctx, s.encoder.evalsha()...)
	_ = e.client.Process(ctx, cmd)
	values, err := cmd.Slice()
	if isNoScript(err) {
		// The server was restarted. Nothing was carried out, so this is no retry.
		cmd = redis.NewCmd(ctx, s.encoder.eval()...)
		_ = e.client.Process(ctx, cmd)
		values, err = cmd.Slice()
	}
	return answer(calls, values, err)
}

// answer gives each call its part of a reply.
func answer(calls []*call, values []any, err error) error {
	r := reader{values}
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
func (e *Engine) sendPipeline(ctx context.Context, s *sender) error {
	type unit struct {
		part  int
		calls []*call
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
		var enc encoder
		enc.reset()
		for _, c := range calls {
			enc.add(c.kind, c.subjects)
		}
		units = append(units, unit{
			part: part, calls: calls,
			cmd:  redis.NewCmd(ctx, append([]any(nil), enc.evalsha()...)...),
			eval: append([]any(nil), enc.eval()...),
		})
	}
	exec := func(units []*unit) {
		pipe := e.client.Pipeline()
		for _, u := range units {
			_ = pipe.Process(ctx, u.cmd)
		}
		_, _ = pipe.Exec(ctx)
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
		if u.calls[0].exact != nil {
			err = u.calls[0].answerExact(values, err)
		} else {
			err = answer(u.calls, values, err)
		}
		e.breaker(u.part).report(e, u.part, err)
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

// jitter spreads a time by a fifth in both directions.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
