package registry

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app"
	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/app/pubsub"
	"github.com/pythopus/tentagate/breaker/internal/circuit"
	"github.com/pythopus/tentagate/internal/pool"
)

// Bounds of hints.
const (
	hintQueue   = 64               // openings that wait for Redis; others are dropped
	hintTimeout = 2 * time.Second  // to publish one
	hintMax     = 10 * time.Minute // the longest that one applies
	hintSize    = 4096             // bytes of a message
	hintKeys    = 1000             // hints for circuits that this gateway has not made yet
)

// hintPool has the hints of each connection to Redis.
var hintPool = pool.New((*hints).close)

// hint says that a circuit opened. It has a duration, not a time, so that the
// clocks of the gateways need not agree.
type hint struct {
	From  string `json:"from"`
	Scope Scope  `json:"scope"`
	Name  string `json:"name"`
	Key   string `json:"key,omitempty"`
	Ms    int64  `json:"ms"`
}

// hints publishes the openings of this gateway in Redis and applies those of
// others. No request waits for it; without Redis there are no hints.
type hints struct {
	id      string
	channel string
	client  redis.UniversalClient

	availability *availability.Engine

	outgoing chan hint
	cancel   context.CancelFunc
	done     sync.WaitGroup
	giveBack func()
}

func acquireHints(a *app.App) (*pool.Ref[*hints], error) {
	rd := a.Redis()
	key := rd.Key() + "/" + a.KeyPrefix()
	return hintPool.Acquire(key, func() (*hints, error) {
		ctx, cancel := context.WithCancel(context.Background())
		h := &hints{
			id: a.InstanceID(), channel: a.KeyPrefix() + ":breaker:opened", client: rd.Background(), availability: rd.Availability(),
			outgoing: make(chan hint, hintQueue), cancel: cancel, giveBack: rd.Retain(),
		}
		h.done.Go(func() { h.send(ctx) })
		h.done.Go(func() { pubsub.Listen(ctx, h.client, h.channel, h.apply) })
		return h, nil
	})
}

// close ends the exchange of hints with the last configuration that uses it.
// A reload does not wait for a Redis that hangs.
func (h *hints) close() error {
	h.cancel()
	go func() {
		h.done.Wait()
		h.giveBack()
	}()
	return nil
}

// publish says that a circuit is open for so long. It never waits.
func (h *hints) publish(g *group, key string, d time.Duration) {
	if h == nil || d <= 0 {
		return
	}
	select {
	case h.outgoing <- hint{From: h.id, Scope: g.Scope, Name: g.Name, Key: key, Ms: min(d, hintMax).Milliseconds()}:
	default:
	}
}

func (h *hints) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case out := <-h.outgoing:
			text, err := json.Marshal(out)
			if err != nil || !h.availability.Partition(h.channel).Readable() {
				continue
			}
			limited, cancel := context.WithTimeout(ctx, hintTimeout)
			_ = h.client.Publish(limited, h.channel, text).Err()
			cancel()
		}
	}
}

// apply applies a hint to its circuit.
func (h *hints) apply(text string) {
	var in hint
	if len(text) > hintSize || json.Unmarshal([]byte(text), &in) != nil || in.From == h.id || in.Ms <= 0 {
		return
	}
	if g, ok := loadGroup(in.Scope, in.Name); ok {
		g.applyHint(h, boundKey(in.Key), time.Duration(min(in.Ms, int64(hintMax/time.Millisecond)))*time.Millisecond)
	}
}

// applyHint applies a hint to the circuit of a key, or keeps it until the first
// request makes that circuit.
func (g *group) applyHint(h *hints, key string, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.circuits[key]; ok {
		c := e.Value.(*Circuit)
		if m := c.owner.Load(); m != nil && m.hints == h {
			c.Hint(d)
		}
		return
	}
	if !slices.ContainsFunc(g.members, func(m *Member) bool { return m.hints == h }) {
		return
	}
	now := Now()
	if len(g.pending) >= hintKeys {
		maps.DeleteFunc(g.pending, func(_ string, until time.Time) bool { return !until.After(now) })
	}
	if len(g.pending) >= hintKeys {
		return
	}
	if g.pending == nil {
		g.pending = map[string]time.Time{}
	}
	g.pending[key] = now.Add(d)
}

func loadGroup(scope Scope, name string) (found *group, ok bool) {
	groups.Range(func(key string, g *group) bool {
		if ok = key == poolKey(scope, name); ok {
			found = g
		}
		return !ok
	})
	return found, ok
}

// parseState reads a state that can be forced; auto ends it.
func parseState(text string) (state circuit.State, auto, ok bool) {
	switch text {
	case "open":
		return circuit.Open, false, true
	case "closed":
		return circuit.Closed, false, true
	case "auto":
		return circuit.Closed, true, true
	default:
		return circuit.Closed, false, false
	}
}
