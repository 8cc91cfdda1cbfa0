package availability

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options are the settings of an engine.
type Options struct {
	// Client is the connection that requests use. It honors the deadline of a
	// context and does not retry.
	Client redis.UniversalClient

	// Prefix begins the keys of probes. Default: "tentagate".
	Prefix string

	// Budget is how long a request waits for Redis at most. Default:
	// DefaultBudget.
	Budget time.Duration

	// OnChange is called for every change of a partition's state, one call at a
	// time. It must not block. Default: none.
	OnChange func(Change)

	// OnReason is called when a partition that is not available fails in another way
	// than before: for each kind of error once in an outage. It must not block.
	// Default: none.
	OnReason func(Change)
}

// Change is a change of a partition's state.
type Change struct {
	Partition *Partition
	// From is the state that was reported before, and Available at first.
	From  State
	State State
	// Reason is the newest error, if the state is not Available.
	Reason error
	// Removed says that the node has left the Cluster.
	Removed bool
	// Late are the subscribers that did not get ready in time.
	Late []string
}

// Engine knows which parts of one Redis are available. It is safe for
// concurrent use.
type Engine struct {
	budget   time.Duration
	slowest  atomic.Int64 // the longest that a feature waits for an answer
	onChange func(Change)
	onReason func(Change)

	// probe writes to a partition. locate returns the node of a key, and false
	// while the nodes are unknown; without a Cluster it is nil. owns reports
	// whether a node has keys.
	probe  func(ctx context.Context, node string) error
	locate func(key string) (node string, ok bool)
	owns   func(node string) bool

	// whole is the one partition without a Cluster, and in a Cluster stands for
	// all of it while its nodes are unknown.
	whole *Partition
	nodes atomic.Pointer[map[string]*Partition]

	mu          sync.Mutex // guards changes of nodes and of subscribers
	subscribers []*subscriber
	reporting   sync.Mutex           // guards reported, and orders the reports
	reported    map[*Partition]State // of partitions that are not available

	ctx     context.Context
	cancel  context.CancelFunc
	probers sync.WaitGroup
}

// New returns an engine. It sends nothing as long as no call fails.
func New(o Options) *Engine {
	o.Prefix = cmp.Or(o.Prefix, "tentagate")
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	if o.OnChange == nil {
		o.OnChange = func(Change) {}
	}
	if o.OnReason == nil {
		o.OnReason = func(Change) {}
	}
	e := &Engine{budget: o.Budget, onChange: o.OnChange, onReason: o.OnReason, reported: map[*Partition]State{}}
	e.slowest.Store(int64(o.Budget))
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.whole = newPartition(e, "")
	e.nodes.Store(&map[string]*Partition{})
	if cluster, ok := o.Client.(*redis.ClusterClient); ok {
		t := &topology{client: cluster, prefix: o.Prefix, engine: e}
		e.probe, e.locate, e.owns = t.probe, t.locate, t.owns
	} else {
		key := o.Prefix + ":probe"
		e.probe = func(ctx context.Context, _ string) error { return set(ctx, o.Client, key) }
	}
	return e
}

// set writes a key that is never read: most features cannot use a server that
// refuses writes. go-redis panics where a server announces an absurdly long
// reply.
func set(ctx context.Context, c redis.UniversalClient, key string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed reply: %v", p)
		}
	}()
	return c.Set(ctx, key, 1, time.Second).Err()
}

// Close ends all probing.
func (e *Engine) Close() {
	e.mu.Lock()
	e.cancel()
	e.mu.Unlock()
	for _, p := range e.all() {
		p.mu.Lock()   // a prober that is being started has started
		p.mu.Unlock() //nolint:staticcheck // it only waits
	}
	e.probers.Wait()
}

// Budget is how long a request waits for Redis at most, unless a feature is
// configured with a longer time.
func (e *Engine) Budget() time.Duration { return e.budget }

// Expect says that a feature waits up to d for an answer, so that a server that
// answers within that time is available. The longest one counts.
func (e *Engine) Expect(d time.Duration) {
	for {
		was := e.slowest.Load()
		if int64(d) <= was || e.slowest.CompareAndSwap(was, int64(d)) {
			return
		}
	}
}

// Partition returns the partition of a key. It never waits.
func (e *Engine) Partition(key string) *Partition {
	if e.locate == nil {
		return e.whole
	}
	node, ok := e.locate(key)
	if !ok {
		return e.whole
	}
	if p := (*e.nodes.Load())[node]; p != nil {
		return p
	}
	return e.add(node)
}

// ErrJoined is why a node that joins during an outage is not used yet.
var ErrJoined = errors.New("the node joined while another was unavailable")

// add enters a node of a Cluster. If it may have taken over keys of a node that
// is unavailable, subscribers get ready before it is used.
func (e *Engine) add(node string) *Partition {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := *e.nodes.Load()
	if p := known[node]; p != nil {
		return p
	}
	p := newPartition(e, node)
	available := e.whole.Writable()
	for _, other := range known {
		available = available && other.Writable()
	}
	if !available {
		p.trip(Unavailable, ErrJoined)
	}
	next := maps.Clone(known)
	next[node] = p
	e.nodes.Store(&next)
	return p
}

func (e *Engine) remove(p *Partition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := maps.Clone(*e.nodes.Load())
	delete(next, p.name)
	e.nodes.Store(&next)
}

// all returns every partition.
func (e *Engine) all() []*Partition {
	list := []*Partition{e.whole}
	for _, p := range *e.nodes.Load() {
		list = append(list, p)
	}
	return list
}

// inUse returns the partitions that keys belong to, and what is unavailable.
func (e *Engine) inUse() []*Partition {
	list := e.all()
	if len(list) > 1 && e.whole.Writable() {
		list = list[1:]
	}
	return list
}

// Status returns the state of every partition.
func (e *Engine) Status() []Status {
	var list []Status
	for _, p := range e.inUse() {
		list = append(list, p.Status())
	}
	return list
}

// Up reports whether Redis has answered and all of it is available.
func (e *Engine) Up() bool {
	contacted := false
	for _, p := range e.inUse() {
		if !p.Writable() {
			return false
		}
		contacted = contacted || p.contacted.Load()
	}
	return contacted
}

// Usable reports whether Redis has answered and some of it is available.
func (e *Engine) Usable() bool {
	for _, p := range e.inUse() {
		if p.Writable() && p.contacted.Load() {
			return true
		}
	}
	return false
}
