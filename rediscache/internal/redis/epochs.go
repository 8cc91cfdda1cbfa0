package redis

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/rediscache/internal/epoch"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

const (
	// DefaultPeriod is the time between two looks at the log of invalidations.
	// Pub/Sub is faster but may lose messages; the log does not.
	DefaultPeriod = 400 * time.Millisecond
	// syncTimeout bounds one command about the log.
	syncTimeout = time.Second
	// page is how much of the log is read at once, batch how many marks are
	// written at once. A page is larger, so that it never ends within the marks
	// of its first epoch.
	page  = 4000
	batch = 500
	// logLife is how long invalidations are kept: longer than any response.
	logLife = maxLife + 24*time.Hour
)

// EpochsOptions are what the exchange of invalidations needs.
type EpochsOptions struct {
	// Client is for commands and the subscription; no request waits for it
	// longer than Budget.
	Client redis.UniversalClient
	// Prefix begins every key. Default: "tentagate".
	Prefix string
	// Budget is how long Invalidate waits for Redis. Default: 25ms.
	Budget time.Duration
	// Period is the time between two looks at the log. Default: 400ms.
	Period time.Duration
}

// Epochs shares invalidations with all gateways that use the same Redis and
// prefix. What is invalidated here counts here at once; elsewhere as soon as
// Redis can be reached. It implements object.Epochs.
//
// The log in Redis is a sorted set: for each mark of the table the epoch of its
// last invalidation. The epochs come from Redis, whose script takes the
// server's microseconds or, if those do not go forward, one more than the last.
type Epochs struct {
	table *epoch.Table
	o     EpochsOptions
	name  string // of this instance

	// synced is the epoch up to which all of the log is known here.
	synced atomic.Uint64
	// ready is false while invalidations may have been missed.
	ready atomic.Bool
	// tried is closed after the first look at the log, successful or not.
	tried chan struct{}
	kick  chan struct{}

	mu      sync.Mutex
	pending *pending // to be written
	writing *pending // being written, or nil
	work    chan struct{}

	// Only the goroutine that synchronises uses these.
	generation, server string
	restored           uint64 // how often the log had been completed when it was read last

	start  sync.Once
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	shared, learned, lost, failures atomic.Int64
}

// NewEpochs returns an exchange of invalidations for the table. It does
// nothing until Start, and Ready is false until the log was read for the first
// time. Close ends it; the client stays open.
func NewEpochs(table *epoch.Table, o EpochsOptions) *Epochs {
	if o.Prefix == "" {
		o.Prefix = "tentagate"
	}
	if o.Budget <= 0 {
		o.Budget = availability.DefaultBudget
	}
	if o.Period <= 0 {
		o.Period = DefaultPeriod
	}
	e := &Epochs{
		table: table, o: o, name: rand.Text(), pending: newPending(),
		tried: make(chan struct{}), kick: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// Start begins the exchange, unless it has begun or ended. It does not wait.
func (e *Epochs) Start() {
	e.start.Do(func() {
		e.done.Add(3)
		go e.synchronise(e.ctx)
		go e.share(e.ctx)
		go e.listen(e.ctx)
	})
}

func (e *Epochs) logKey() string { return e.o.Prefix + ":cache:{epochs}:log" }

func (e *Epochs) generationKey() string { return e.o.Prefix + ":cache:{epochs}:generation" }

func (e *Epochs) channel() string { return e.o.Prefix + ":cache:{epochs}" }

// Now returns the epoch for a response whose request is sent after the call.
func (e *Epochs) Now() uint64 { return e.table.Now() }

// Check says whether the response is still usable.
func (e *Epochs) Check(key object.Key, o *object.Object) object.Freshness {
	return e.table.Check(key, o)
}

// Ready reports whether all invalidations are known here that were made until
// a moment ago. While it is false, what others stored cannot be judged.
func (e *Epochs) Ready() bool { return e.ready.Load() }

// Admit reports whether a response that another gateway stored may come in. Its
// epoch is of that gateway, which may be ahead of this one. So it is not
// comparable with invalidations made here that have no epoch in the log yet:
// what they concern stays out until they have. And this gateway catches up, so
// that the next invalidation is later than all it has seen.
func (e *Epochs) Admit(o *object.Object) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range []*pending{e.pending, e.writing} {
		if p == nil || len(p.marks) == 0 {
			continue
		}
		found := epoch.Look(o, func(m epoch.Mark) bool {
			_, has := p.marks[m]
			return has
		})
		if found != object.Valid {
			return false
		}
	}
	e.table.Advance(o.Epoch)
	return true
}

// Tried reports whether the log was looked at since the start, successfully or
// not.
func (e *Epochs) Tried() bool {
	select {
	case <-e.tried:
		return true
	default:
		return false
	}
}

// Await is Ready that waits for the first look at the log, so that a gateway
// that starts does not pass by what is stored already, and does not give what
// it stores an epoch from before all others.
func (e *Epochs) Await(ctx context.Context) bool {
	if e.ready.Load() {
		return true
	}
	if !e.Tried() {
		e.Start()
		select {
		case <-e.tried:
		case <-e.ctx.Done():
		case <-ctx.Done():
		}
	}
	return e.ready.Load()
}

// Close ends the exchange.
func (e *Epochs) Close() {
	e.start.Do(func() {})
	e.cancel()
	e.done.Wait()
}

// EpochsStats are numbers of the exchange since the start.
type EpochsStats struct {
	// Shared counts what was written to the log, Learned what was heard of.
	Shared  int64 `json:"shared"`
	Learned int64 `json:"learned"`
	// Pending waits to be written.
	Pending int64 `json:"pending"`
	// Lost counts how often the log had lost something and was given it back.
	Lost int64 `json:"log_restored"`
	// Failures counts failed exchanges with Redis.
	Failures int64 `json:"failures"`
	// Ready is false while invalidations may have been missed.
	Ready bool `json:"in_step"`
}

// Stats returns the present numbers.
func (e *Epochs) Stats() EpochsStats {
	e.mu.Lock()
	n := len(e.pending.marks)
	e.mu.Unlock()
	return EpochsStats{
		Shared: e.shared.Load(), Learned: e.learned.Load(), Pending: int64(n),
		Lost: e.lost.Load(), Failures: e.failures.Load(), Ready: e.ready.Load(),
	}
}

// Interface guard
var _ object.Epochs = (*Epochs)(nil)
