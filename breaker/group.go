package breaker

import (
	"container/list"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/pythopus/tentagate/breaker/circuit"
)

// groups are the breakers by name. They survive a reload.
var groups = caddy.NewUsagePool()

// group are the circuits of one name.
type group struct {
	name string

	mu       sync.Mutex
	circuits map[string]*list.Element // guarded by mu
	recent   *list.List               // of *keyed, most recently used first; guarded by mu
	single   atomic.Pointer[keyed]    // the circuit of the empty key, found without a lock
}

type keyed struct {
	key     string
	breaker *circuit.Breaker
	owner   atomic.Pointer[Handler] // the newest handler that uses it: it tells of changes
}

func acquire(name string) (*group, error) {
	val, _, err := groups.LoadOrNew(name, func() (caddy.Destructor, error) {
		return &group{name: name, circuits: map[string]*list.Element{}, recent: list.New()}, nil
	})
	if err != nil {
		return nil, err
	}
	return val.(*group), nil
}

func release(name string) error {
	_, err := groups.Delete(name)
	return err
}

// Destruct ends the circuits when the last configuration that has them is gone.
func (g *group) Destruct() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.recent.Front(); e != nil; e = e.Next() {
		e.Value.(*keyed).breaker.Close()
	}
	return nil
}

// get returns the circuit of a key, with the settings of the handler that asks.
func (g *group) get(key string, h *Handler) *circuit.Breaker {
	if key == "" {
		if k := g.single.Load(); k != nil {
			k.adopt(h)
			return k.breaker
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.circuits[key]; ok {
		g.recent.MoveToFront(e)
		k := e.Value.(*keyed)
		k.adopt(h)
		return k.breaker
	}
	k := &keyed{key: key}
	k.owner.Store(h)
	k.breaker = circuit.New(h.settings, nil, func(c circuit.Change) { k.owner.Load().changed(key, c) })
	g.circuits[key] = g.recent.PushFront(k)
	for g.recent.Len() > h.MaxKeys {
		oldest := g.recent.Back()
		gone := g.recent.Remove(oldest).(*keyed)
		delete(g.circuits, gone.key)
		gone.breaker.Close()
		if gone.key == "" {
			g.single.Store(nil)
		}
	}
	if key == "" {
		g.single.Store(k)
	}
	return k.breaker
}

// adopt gives the circuit the rules of a handler of a newer configuration.
func (k *keyed) adopt(h *Handler) {
	if k.owner.Load() == h {
		return
	}
	k.owner.Store(h)
	k.breaker.Configure(h.settings)
}

// each calls f for every circuit.
func (g *group) each(f func(key string, b *circuit.Breaker)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.recent.Front(); e != nil; e = e.Next() {
		k := e.Value.(*keyed)
		f(k.key, k.breaker)
	}
}

// Interface guard
var _ caddy.Destructor = (*group)(nil)
