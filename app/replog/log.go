package replog

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
)

const (
	// DefaultPeriod is the default of Options.Period.
	DefaultPeriod = 400 * time.Millisecond
	// commandTimeout bounds one command.
	commandTimeout = time.Second
	// pageSize is how many keys are read at once, batchSize how many are written
	// at once. A page is larger than a batch, so that it never ends within the keys
	// of its first position.
	pageSize  = 4000
	batchSize = 500
	// scanEvery is how often all values are read.
	scanEvery = 30 * time.Second
)

// Entry is what the log says of a key.
type Entry struct {
	// Key has neither blanks nor colons, and is not "clock".
	Key string
	// Value and Expires, in milliseconds of Unix time, are for a log with values.
	// Neither is negative. Of two entries with one key the larger of each counts.
	Value, Expires int64
	// Removed says that the key was removed. Expires is then that of what was
	// removed, or 0 if that has expired.
	Removed bool
}

// Change is an entry with its position in the log. Zero is an unknown position,
// before all others.
type Change struct {
	Entry
	Position uint64
}

// Replica is the local copy of the log. Its methods may be called at the same
// time, and must not call the log.
type Replica interface {
	// Apply enters changes of other gateways and returns how many were new. They
	// come in any order and more than once: a change that is earlier than what is
	// known of its key changes nothing, but for merging values.
	Apply(changes []Change) int
	// Confirm says at which position own entries are in the log.
	Confirm(entries []Entry, position uint64)
	// Begin says that nothing is known of changes before the position: the log was
	// begun there.
	Begin(position uint64)
	// Advance says that the log has come to the position.
	Advance(position uint64)
	// Clock returns the highest position that was seen here. What is appended gets
	// a later one.
	Clock() uint64
	// Each calls f with every change whose position is above since, to write it
	// back to a log that was lost.
	Each(since uint64, f func(Change))
}

// Keys are the names in Redis. They have a hash tag in common, so that they are
// in one slot of a Cluster.
type Keys struct {
	Log, State string
	// Expires makes it a log with values.
	Expires string
	Channel string
}

// Options of a Log. Client, Keys and Life are needed.
type Options struct {
	// Client is for commands and the subscription.
	Client redis.UniversalClient
	Keys   Keys
	// Availability learns of failures, and has the log read and what is pending
	// written before Redis is used again. Name is what it calls the log. Default:
	// none.
	Availability *availability.Engine
	Name         string
	// Life is how long a change is kept: longer than it can matter.
	Life time.Duration
	// Period is the time between two reads of the log. Default: 400ms.
	Period time.Duration
	// Observe is called when the log can no longer be read (with the error) and when
	// it can again (nil). Default: none.
	Observe func(error)
	// Now is the clock of Contact. Default: time.Now.
	Now func() time.Time
}

// Log is one gateway's part in a replicated log.
type Log struct {
	o       Options
	replica Replica
	keys    []string
	writer  string // this gateway's name in messages

	// synced is the position up to which all changes are known here.
	synced atomic.Uint64
	// ready is false while changes may have been missed.
	ready atomic.Bool
	// contact is when Redis last answered since the log was first read.
	contact atomic.Pointer[time.Time]
	// tried is closed after the first attempt to read the log.
	tried chan struct{}
	kick  chan struct{} // read the log now
	work  chan struct{} // write what is pending now

	mu      sync.Mutex
	pending *batch       // to be written
	writing *batch       // being written, or nil
	waiting []chan error // for the result of the next read

	reader reader // of the goroutine that reads

	start  sync.Once
	leave  func() // ends the subscription to the availability, or nil
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	appended, learned, lost, failures atomic.Int64
}

// New returns a log for the replica. It does nothing until Start. Close ends it;
// the client stays open.
func New(replica Replica, o Options) *Log {
	if o.Period <= 0 {
		o.Period = DefaultPeriod
	}
	if o.Observe == nil {
		o.Observe = func(error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Log{
		o: o, replica: replica, keys: []string{o.Keys.Log, o.Keys.State}, writer: rand.Text(), pending: newBatch(),
		tried: make(chan struct{}), kick: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
	if l.values() {
		l.keys = append(l.keys, o.Keys.Expires)
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// values reports whether the log has values.
func (l *Log) values() bool { return l.o.Keys.Expires != "" }

// Start begins to follow the log, unless it has begun or ended. It does not wait.
func (l *Log) Start() {
	l.start.Do(func() {
		l.done.Go(l.follow)
		l.done.Go(l.write)
		l.done.Go(l.listen)
		if l.o.Availability != nil {
			l.leave = l.o.Availability.Subscribe(availability.Subscriber{Name: l.o.Name, Restore: l.beforeReturn, Changed: l.availabilityChanged})
		}
	})
}

// partition is the part of Redis that has the log, or nil.
func (l *Log) partition() *availability.Partition {
	if l.o.Availability == nil {
		return nil
	}
	return l.o.Availability.Partition(l.o.Keys.Log)
}

// beforeReturn is called before Redis is used again.
func (l *Log) beforeReturn(ctx context.Context, p *availability.Partition) error {
	if p != l.partition() {
		return nil
	}
	return l.catchUp(ctx)
}

// availabilityChanged is called when Redis was lost or is used again.
func (l *Log) availabilityChanged(p *availability.Partition, s availability.State) {
	if s == availability.Unavailable && p == l.partition() {
		l.ready.Store(false)
	}
}

// Close ends it, after one more attempt to write what is pending.
func (l *Log) Close() {
	l.start.Do(func() {})
	if l.leave != nil {
		l.leave()
	}
	l.cancel()
	l.done.Wait()
}

// Ready reports whether all changes are known here that were made until a
// moment ago.
func (l *Log) Ready() bool { return l.ready.Load() }

// Tried reports whether reading the log was attempted since the start.
func (l *Log) Tried() bool {
	select {
	case <-l.tried:
		return true
	default:
		return false
	}
}

// Await is Ready that starts the log and waits for the first attempt to read it.
func (l *Log) Await(ctx context.Context) bool {
	if !l.ready.Load() && !l.Tried() {
		l.Start()
		select {
		case <-l.tried:
		case <-l.ctx.Done():
		case <-ctx.Done():
		}
	}
	return l.ready.Load()
}

// Contact returns when Redis last answered since the log was first read; zero
// before that.
func (l *Log) Contact() time.Time {
	if t := l.contact.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// Read has the log read soon.
func (l *Log) Read() { signal(l.kick) }

// signal wakes the goroutine that waits on the channel, which has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Stats are numbers since the start.
type Stats struct {
	// Appended counts the batches written, Learned the changes of others.
	Appended, Learned int64
	// Pending is how many keys wait to be written.
	Pending int64
	// Lost counts how often the log had lost changes and got them back.
	Lost int64
	// Failures counts failed reads and writes.
	Failures int64
	Ready    bool
}

// Stats returns the present numbers.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	n := len(l.pending.entries)
	l.mu.Unlock()
	return Stats{
		Appended: l.appended.Load(), Learned: l.learned.Load(), Pending: int64(n),
		Lost: l.lost.Load(), Failures: l.failures.Load(), Ready: l.ready.Load(),
	}
}

// raise makes v at least to.
func raise(v *atomic.Uint64, to uint64) {
	for {
		was := v.Load()
		if was >= to || v.CompareAndSwap(was, to) {
			return
		}
	}
}
