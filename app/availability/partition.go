package availability

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tripStreak is how many calls in a row have to fail before a partition is
	// taken out of use. Calls that fail together count once: a burst of them may
	// be too much for this machine, and says little about Redis.
	tripStreak = 3

	// A partition is also taken out of use when more than half of at least
	// tripVolume calls within tripWindow failed, in at least tripStreak bursts.
	tripVolume = 10
	tripWindow = time.Second
)

// State says what a partition can be used for.
type State uint32

const (
	// Available means that reads and writes are answered, as far as is known.
	Available State = iota

	// ReadOnly means that the server answers, but refuses writes.
	ReadOnly

	// Unavailable means that the server does not answer.
	Unavailable
)

// String returns the state as metrics and the admin API name it.
func (s State) String() string {
	switch s {
	case Available:
		return "available"
	case ReadOnly:
		return "read_only"
	default:
		return "unavailable"
	}
}

// Partition is the part of Redis that is available or not as a whole: a server,
// or a master of a Cluster. It is safe for concurrent use.
type Partition struct {
	engine *Engine
	name   string

	state     atomic.Uint32
	contacted atomic.Bool   // an answer came since the start
	answers   atomic.Uint64 // calls that were answered
	streak    atomic.Int32  // failures in a row
	refusals  atomic.Int32  // refused writes in a row

	mu          sync.Mutex
	failedAt    time.Time // when a failure was counted last
	windowBegan time.Time
	windowFrom  uint64 // answers when the window began
	failed      uint64 // calls in the window
	bursts      int    // in the window
	probing     bool
	changed     chan struct{} // signals the prober that the state has changed
	reason      error
	kinds       map[string]bool // of the errors since the partition was lost
	since       time.Time
	reopened    time.Time
}

func newPartition(e *Engine, name string) *Partition {
	return &Partition{engine: e, name: name, changed: make(chan struct{}, 1), since: time.Now()}
}

// Name returns host:port of a master of a Cluster, and nothing otherwise.
func (p *Partition) Name() string { return p.name }

// State returns what the partition can be used for now.
func (p *Partition) State() State { return State(p.state.Load()) }

// Writable reports whether writes may be sent.
func (p *Partition) Writable() bool { return p.State() == Available }

// Readable reports whether reads may be sent.
func (p *Partition) Readable() bool { return p.State() != Unavailable }

// Call describes a call for Report.
type Call struct {
	// Began is when the call was sent.
	Began time.Time

	// Write says that the call changes data.
	Write bool

	// Short says that the call had much less time than usual, because the request
	// had waited for Redis before. That it ran out of time then says nothing.
	Short bool
}

// Report counts the result of a call.
func (p *Partition) Report(c Call, err error) {
	switch Classify(err) {
	case Answered:
		p.succeed(c)
	case Refused:
		p.streak.Store(0)
		if c.Write && p.State() == Available && p.refusals.Add(1) >= tripStreak {
			p.trip(ReadOnly, err)
		}
	case Outage:
		if !c.Short || !isTimeout(err) {
			p.fail(c.Began, err)
		}
	case Canceled:
	}
}

func (p *Partition) succeed(c Call) {
	if !p.contacted.Load() {
		p.contacted.Store(true)
	}
	p.answers.Add(1)
	if p.streak.Load() != 0 {
		p.streak.Store(0)
	}
	if c.Write && p.refusals.Load() != 0 {
		p.refusals.Store(0)
	}
}

func (p *Partition) fail(began time.Time, err error) {
	if p.State() == Unavailable {
		return
	}
	now := time.Now()
	p.mu.Lock()
	if now.Sub(p.windowBegan) > tripWindow {
		p.windowBegan, p.windowFrom, p.failed, p.bursts = now, p.answers.Load(), 0, 0
	}
	p.failed++
	streak := p.streak.Load()
	if !began.Before(p.failedAt) {
		p.failedAt = now
		p.bursts++
		streak = p.streak.Add(1)
	}
	total := p.failed + p.answers.Load() - p.windowFrom
	often := total >= tripVolume && 2*p.failed > total && p.bursts >= tripStreak
	p.mu.Unlock()
	if streak >= tripStreak || often {
		p.trip(Unavailable, err)
	}
}

// Lost takes the partition out of use at once, for an error that leaves no
// doubt, such as the failure of a call that had seconds.
func (p *Partition) Lost(err error) {
	if isDenied(err) {
		return
	}
	switch Classify(err) {
	case Outage:
		p.trip(Unavailable, err)
	case Refused:
		p.trip(ReadOnly, err)
	case Answered, Canceled:
	}
}

// trip takes the partition out of use, for writes or altogether, and has it
// probed. It never improves the state.
func (p *Partition) trip(to State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.State() >= to || p.engine.ctx.Err() != nil {
		return
	}
	p.set(to, err)
	if p.probing {
		select {
		case p.changed <- struct{}{}:
		default:
		}
		return
	}
	p.probing = true
	p.engine.probers.Go(p.probe)
}

// set changes the state. The caller holds mu.
func (p *Partition) set(to State, err error) {
	p.state.Store(uint32(to))
	p.reason, p.since = err, time.Now()
	switch {
	case to == Available:
		p.kinds = nil
	case p.kinds == nil:
		p.kinds = map[string]bool{kindOf(err): true}
	default:
		p.kinds[kindOf(err)] = true
	}
	p.streak.Store(0)
	p.refusals.Store(0)
	p.windowBegan = time.Time{}
}

// renew notes the newest error of a partition that is not available, and reports whether
// it is the first of its kind since the partition was lost. An answer is no reason.
func (p *Partition) renew(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state, class := p.State(), Classify(err); {
	case state == Unavailable && class == Outage:
	case state == ReadOnly && class == Refused:
	default:
		return false // the server answered, or it may lead to another state
	}
	p.reason = err
	kind := kindOf(err)
	if p.kinds[kind] {
		return false
	}
	p.kinds[kind] = true
	return true
}

// Status describes a partition.
type Status struct {
	// Name is host:port of a master of a Cluster, and empty otherwise.
	Name string
	// Contacted is false until the first answer.
	Contacted bool
	State     State
	// Since is when the state began.
	Since time.Time
	// Reason is the newest error, if the state is not Available.
	Reason error
}

// Status returns the present state and its reason.
func (p *Partition) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Status{Name: p.name, Contacted: p.contacted.Load(), State: p.State(), Since: p.since, Reason: p.reason}
}
