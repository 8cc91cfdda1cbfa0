package registry

import (
	"container/list"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/internal/pool"
)

// Scope says what a circuit stands for.
type Scope string

// The scopes.
const (
	Service  Scope = "service"  // what is behind a circuit_breaker handler
	Upstream Scope = "upstream" // an address of a reverse_proxy with the transport
	Slot     Scope = "slot"     // a whole reverse_proxy
)

// forgetAfter is how long an unused circuit without state is kept, so that
// addresses that no longer exist are removed.
const forgetAfter = 10 * time.Minute

// evictionScan is how many circuits are examined to find one without state, when
// there are too many.
const evictionScan = 64

// groups has the circuits by scope and name. They survive a reload.
var groups = pool.New((*group).close)

// group has the circuits of one name.
type group struct {
	Scope Scope
	Name  string

	mu       sync.Mutex
	circuits map[string]*list.Element // guarded by mu
	recent   list.List                // of *Circuit, most recently used first; guarded by mu
	members  []*Member                // oldest first; guarded by mu
	forced   *order                   // for circuits made later; guarded by mu
	openTime time.Duration            // of circuits that were removed; guarded by mu
	pending  map[string]time.Time     // until when hints apply, for keys without a circuit; guarded by mu

	single atomic.Pointer[Circuit] // the circuit of the empty key, found without a lock
}

// order is a forced state of all circuits of a name.
type order struct {
	state circuit.State
	until time.Time
}

func poolKey(scope Scope, name string) string { return string(scope) + "/" + name }

// join adds the member to the group of its name. Members of one configuration
// must agree on the rules: their circuits are the same.
func join(m *Member) error {
	ref, err := groups.Acquire(poolKey(m.scope, m.name), func() (*group, error) {
		return &group{Scope: m.scope, Name: m.name, circuits: map[string]*list.Element{}}, nil
	})
	if err != nil {
		return err
	}
	g := ref.Value
	g.mu.Lock()
	for _, other := range g.members {
		if other.config == m.config && !reflect.DeepEqual(other.rules(), m.rules()) {
			g.mu.Unlock()
			_ = ref.Release()
			return fmt.Errorf("name %q: used twice with different rules%s, but there is one state for a name: choose another name, or write the same rules; "+
				"each service of a tentagate directive has a breaker of its own name, which ends with that of the directive if it is written `tentagate <name>`", m.name, places(other, m))
		}
		if other.config == m.config && m.scope == Service && m.position != other.position {
			m.logger.Warn("two circuit breakers share a name, and so their state: give them different names, unless they protect the same backend",
				zap.String("name", m.name), zap.String("first", other.position), zap.String("second", m.position))
		}
	}
	g.members = append(g.members, m)
	g.mu.Unlock()
	m.group, m.groupRef = g, ref
	return nil
}

// places names the positions of two members, if both are known.
func places(a, b *Member) string {
	if a.position == "" || b.position == "" {
		return ""
	}
	return fmt.Sprintf(" (at %s and at %s)", a.position, b.position)
}

// leave removes the member. The circuits remain as long as the group has one.
func (g *group) leave(m *Member) {
	g.mu.Lock()
	g.members = slices.DeleteFunc(g.members, func(other *Member) bool { return other == m })
	for e := g.recent.Front(); e != nil; e = e.Next() {
		// An older configuration takes over where a newer one failed to start.
		e.Value.(*Circuit).owner.CompareAndSwap(m, nil)
	}
	g.mu.Unlock()
}

// close ends the circuits with the last configuration that uses them.
func (g *group) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.recent.Front(); e != nil; e = e.Next() {
		e.Value.(*Circuit).Close()
	}
	return nil
}

// get returns the circuit of a key, with the rules of the member that asks.
func (g *group) get(key string, m *Member) *Circuit {
	if key == "" {
		if c := g.single.Load(); c != nil {
			c.adopt(m)
			return c
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := Now()
	if e, ok := g.circuits[key]; ok {
		g.recent.MoveToFront(e)
		c := e.Value.(*Circuit)
		c.used.Store(now.UnixNano())
		c.adopt(m)
		return c
	}
	c := &Circuit{Key: key}
	c.owner.Store(m)
	c.used.Store(now.UnixNano())
	c.Breaker = circuit.New(m.settings, source, func(change circuit.Change) { g.changed(c, change) })
	c.setLimiter(m)
	if g.forced != nil {
		if left := g.forced.until.Sub(now); left > 0 {
			c.Force(g.forced.state, left)
		}
	}
	if until, ok := g.pending[key]; ok {
		delete(g.pending, key)
		if left := until.Sub(now); left > 0 && m.hints != nil {
			c.Hint(left)
		}
	}
	g.forget(now)
	for g.recent.Len() >= m.maxKeys {
		g.drop(g.victim())
	}
	g.circuits[key] = g.recent.PushFront(c)
	if key == "" {
		g.single.Store(c)
	}
	return c
}

// victim returns the circuit to remove: the longest unused of those without state,
// so that nobody closes an open circuit by making many others. g.mu is held, and
// there is a circuit.
func (g *group) victim() *list.Element {
	n := 0
	for e := g.recent.Back(); e != nil && n < evictionScan; e, n = e.Prev(), n+1 {
		if s := e.Value.(*Circuit).Snapshot(); s.State == circuit.Closed && !s.Forced {
			return e
		}
	}
	return g.recent.Back()
}

// forget removes the circuits that have no state and were not used for a while.
// g.mu is held.
func (g *group) forget(now time.Time) {
	for e := g.recent.Back(); e != nil; {
		c := e.Value.(*Circuit)
		if now.UnixNano()-c.used.Load() < int64(forgetAfter) {
			return
		}
		previous := e.Prev()
		s := c.Snapshot()
		// Nobody probes an address that no longer exists: its half-open circuit is
		// removed too.
		if c.Key != "" && !s.Forced && s.State != circuit.Open && s.Total == 0 {
			g.drop(e)
		}
		e = previous
	}
}

// drop removes a circuit. g.mu is held.
func (g *group) drop(e *list.Element) {
	c := g.recent.Remove(e).(*Circuit)
	delete(g.circuits, c.Key)
	g.openTime += c.Snapshot().Open
	c.Close()
	if c.Key == "" {
		g.single.CompareAndSwap(c, nil)
	}
}

// each returns the circuits, the most recently used first.
func (g *group) each() []*Circuit {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(Now())
	all := make([]*Circuit, 0, g.recent.Len())
	for e := g.recent.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*Circuit))
	}
	return all
}

// lookup returns the circuit of a key, or nil. It does not count as a use.
func (g *group) lookup(key string) *Circuit {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.circuits[key]; ok {
		return e.Value.(*Circuit)
	}
	return nil
}

// foreseeNew returns what a circuit would say that a request makes: it is closed, unless a
// state is forced for all.
func (g *group) foreseeNew() Admission {
	if state, left := g.ofNew(); state == circuit.Open {
		return Admission{State: state, Wait: left}
	}
	return Admission{State: circuit.Closed, Ready: true}
}

// ofNew returns the state of a circuit that a request makes, and for how long that is
// forced.
func (g *group) ofNew() (state circuit.State, forced time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.forced != nil {
		if left := g.forced.until.Sub(Now()); left > 0 {
			return g.forced.state, left
		}
	}
	return circuit.Closed, 0
}

// force sets a state for the circuit of a key, or for all, including those made
// later. It reports whether there is such a circuit.
func (g *group) force(key string, all bool, state circuit.State, d time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if all {
		g.forced = nil
		if d > 0 {
			g.forced = &order{state, Now().Add(d)}
		}
	}
	found := all
	for e := g.recent.Front(); e != nil; e = e.Next() {
		c := e.Value.(*Circuit)
		if !all && c.Key != key {
			continue
		}
		found = true
		if d > 0 {
			c.Force(state, d)
		} else {
			c.Unforce()
		}
	}
	return found
}

// eachGroup returns the groups, sorted by name.
func eachGroup() []*group {
	all := groups.Values()
	slices.SortFunc(all, func(a, b *group) int {
		return strings.Compare(a.Name+"\x00"+string(a.Scope), b.Name+"\x00"+string(b.Scope))
	})
	return all
}
