package redis

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/rediscache/epoch"
	"github.com/pythopus/tentagate/rediscache/object"
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
	// Budget is how long Invalidate waits for Redis. Default: 20ms.
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

// pending are invalidations that are not in the log yet.
type pending struct {
	marks map[epoch.Mark]struct{}
	done  chan struct{} // closed when the batch was tried
	ok    bool          // that it is in the log; set before done is closed
}

func newPending() *pending {
	return &pending{marks: map[epoch.Mark]struct{}{}, done: make(chan struct{})}
}

// NewEpochs returns an exchange of invalidations for the table. It does
// nothing until Start, and Ready is false until the log was read for the first
// time. Close ends it; the client stays open.
func NewEpochs(table *epoch.Table, o EpochsOptions) *Epochs {
	if o.Prefix == "" {
		o.Prefix = "tentagate"
	}
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
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

func (e *Epochs) logKey() string        { return e.o.Prefix + ":cache:{epochs}:log" }
func (e *Epochs) generationKey() string { return e.o.Prefix + ":cache:{epochs}:generation" }
func (e *Epochs) channel() string       { return e.o.Prefix + ":cache:{epochs}" }

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

// Invalidate makes the scopes unusable here at once and at all other gateways.
// It waits for Redis no longer than the budget, and not at all while Redis is
// away; what was not shared then is shared later. A scope that makes no sense
// names nothing.
func (e *Epochs) Invalidate(scopes ...object.Scope) {
	ctx, cancel := context.WithTimeout(context.Background(), e.o.Budget)
	defer cancel()
	var all []epoch.Mark
	for _, s := range scopes {
		marks, _ := epoch.Marks(s)
		all = append(all, marks...)
	}
	e.purge(ctx, all)
}

// Purge is Invalidate with the context's deadline for the wait. It reports
// whether the invalidation is in the log already. If it is not, it will be: that
// is no error. An error is a scope that makes no sense; then nothing is
// invalidated.
func (e *Epochs) Purge(ctx context.Context, scopes ...object.Scope) (shared bool, err error) {
	marks, err := epoch.Marks(scopes...)
	if err != nil {
		return false, err
	}
	return e.purge(ctx, marks), nil
}

func (e *Epochs) purge(ctx context.Context, marks []epoch.Mark) (shared bool) {
	if len(marks) == 0 {
		return true
	}
	e.Start()
	e.mu.Lock()
	e.table.Bump(marks)
	p := e.pending
	for _, m := range marks {
		p.marks[m] = struct{}{}
	}
	e.mu.Unlock()
	select {
	case e.work <- struct{}{}:
	default:
	}
	if !e.ready.Load() {
		return false
	}
	select {
	case <-p.done:
		return p.ok
	case <-ctx.Done():
		return false
	}
}

// share writes pending invalidations to the log.
func (e *Epochs) share(ctx context.Context) {
	defer e.done.Done()
	for {
		select {
		case <-e.work:
			for e.sharePending(ctx) {
			}
		case <-ctx.Done():
			// What is left has one more chance.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), syncTimeout/4)
			for e.sharePending(last) {
			}
			cancel()
			return
		}
	}
}

// sharePending writes some of what is pending and reports whether there is more
// to do at once.
func (e *Epochs) sharePending(ctx context.Context) (more bool) {
	e.mu.Lock()
	p := e.pending
	if len(p.marks) == 0 {
		e.mu.Unlock()
		return false
	}
	e.pending, e.writing = newPending(), p
	clock := e.table.Now()
	e.mu.Unlock()

	marks := make([]epoch.Mark, 0, len(p.marks))
	for m := range p.marks {
		marks = append(marks, m)
	}
	for len(marks) > 0 {
		some := marks[:min(len(marks), batch)]
		prev, at, err := e.append(ctx, some, clock)
		if err != nil {
			break
		}
		e.table.Confirm(some, at)
		e.shared.Add(1)
		if e.synced.Load() >= prev {
			raise(&e.synced, at)
		}
		marks = marks[len(some):]
		clock = at
	}
	p.ok = len(marks) == 0
	e.mu.Lock()
	if !p.ok {
		// To be tried again after the next successful look at the log.
		e.failures.Add(1)
		e.ready.Store(false)
		for _, m := range marks {
			e.pending.marks[m] = struct{}{}
		}
	}
	e.writing = nil
	e.mu.Unlock()
	close(p.done)
	return p.ok
}

// synchronise reads the log again and again.
func (e *Epochs) synchronise(ctx context.Context) {
	defer e.done.Done()
	for first := true; ; first = false {
		err := e.sync(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			e.failures.Add(1)
			e.ready.Store(false)
		} else {
			e.ready.Store(true)
			select {
			case e.work <- struct{}{}: // what could not be shared before
			default:
			}
		}
		if first {
			close(e.tried)
		}
		timer := time.NewTimer(e.o.Period)
		select {
		case <-timer.C:
		case <-e.kick:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// sync learns what is new in the log. If the log may have lost something, after a
// FLUSHALL, an eviction or a failover, it is given back what is known here. What
// others give back is older than what was read last, so then all is read again.
func (e *Epochs) sync(ctx context.Context) error {
	first := e.generation == ""
	known := e.synced.Load() // before reading: it grows meanwhile
	since := known
	if first {
		since = 0
	}
	r, err := e.read(ctx, since)
	if err != nil {
		return err
	}
	lost := !first && e.isLost(r, known)
	switch {
	case first:
		// What was invalidated before the log was begun nobody can tell, so what
		// was stored before is not used.
		e.table.Raise(r.birth)
	case lost:
		e.lost.Add(1)
		e.generation = "lost" // so that a failure now is made good later
		if err := e.restore(ctx); err != nil {
			return err
		}
	}
	if lost || !first && r.restored != e.restored {
		since = 0
		if r, err = e.read(ctx, since); err != nil {
			return err
		}
	}
	generation, server, restored := r.generation, r.server, r.restored
	for {
		for _, l := range r.learned {
			e.learn(l.marks, l.epoch)
			since = max(since, l.epoch)
		}
		if r.count < page {
			break
		}
		if r.learned[0].epoch < since {
			since-- // the page may end between two marks of one epoch
		}
		if r, err = e.read(ctx, since); err != nil {
			return err
		}
	}
	raise(&e.synced, since)
	e.table.Advance(since)
	e.generation, e.server, e.restored = generation, server, restored
	return nil
}

// isLost reports whether the log is another than the one known here, or an older
// copy of it.
func (e *Epochs) isLost(r *reading, known uint64) bool {
	return r.created || r.generation != e.generation || r.server != e.server || r.top < known
}

// learn applies those marks that are not known to be as late already.
func (e *Epochs) learn(marks []epoch.Mark, at uint64) {
	news := marks[:0:0]
	for _, m := range marks {
		if e.table.At(m) < at {
			news = append(news, m)
		}
	}
	if len(news) > 0 {
		e.table.Learn(news, at)
		e.learned.Add(int64(len(news)))
	}
}

// listen hears of invalidations as they are made. A message that is lost, or
// that follows one that was lost, is made good by a look at the log.
func (e *Epochs) listen(ctx context.Context) {
	defer e.done.Done()
	sub := e.o.Client.Subscribe(ctx, e.channel())
	defer sub.Close()
	messages := sub.Channel()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			e.hear(m.Payload)
		case <-ctx.Done():
			return
		}
	}
}

func (e *Epochs) hear(payload string) {
	if payload == messageRestored {
		e.look()
		return
	}
	prev, at, from, marks, ok := parseMessage(payload)
	if !ok || from == e.name {
		return
	}
	e.learn(marks, at)
	if e.synced.Load() >= prev {
		raise(&e.synced, at)
		return
	}
	e.look()
}

// look has the log looked at soon.
func (e *Epochs) look() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

func raise(v *atomic.Uint64, to uint64) {
	for {
		was := v.Load()
		if was >= to || v.CompareAndSwap(was, to) {
			return
		}
	}
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
