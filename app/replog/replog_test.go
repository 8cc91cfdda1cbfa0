package replog

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/internal/testkit"
)

// unshared is the position of what is not in the log yet.
const unshared = math.MaxUint64

// mirror is a replica that is a map.
type mirror struct {
	mu      sync.Mutex
	changes map[string]Change
	clock   uint64
	birth   uint64
}

func (m *mirror) Apply(changes []Change) (news int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		if c.Position != unshared {
			m.clock = max(m.clock, c.Position)
		}
		old, known := m.changes[c.Key]
		if known && old.Removed == c.Removed {
			c.Value, c.Expires, c.Position = max(c.Value, old.Value), max(c.Expires, old.Expires), max(c.Position, old.Position)
		} else if known && c.Position <= old.Position {
			continue
		}
		if !known || c != old {
			m.changes[c.Key] = c
			news++
		}
	}
	return news
}

func (m *mirror) Confirm(entries []Entry, position uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		c := m.changes[e.Key]
		c.Position = position
		m.changes[e.Key] = c
	}
	m.clock = max(m.clock, position)
}

func (m *mirror) Begin(position uint64) { m.birth = position; m.Advance(position) }
func (m *mirror) Advance(position uint64) {
	m.mu.Lock()
	m.clock = max(m.clock, position)
	m.mu.Unlock()
}
func (m *mirror) Clock() uint64 { m.mu.Lock(); defer m.mu.Unlock(); return m.clock }

func (m *mirror) Each(since uint64, f func(Change)) {
	m.mu.Lock()
	all := maps.Clone(m.changes)
	m.mu.Unlock()
	for _, c := range all {
		if c.Position > since && c.Position != unshared {
			f(c)
		}
	}
}

// live returns what is known and not removed.
func (m *mirror) live() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]int64{}
	for key, c := range m.changes {
		if !c.Removed {
			all[key] = c.Value
		}
	}
	return all
}

// gateway is a follower of the log.
type gateway struct {
	*Log
	m *mirror
}

// put appends a key and reports whether it is shared.
func (g *gateway) put(key string, value int64) (shared bool) {
	e := Entry{Key: key, Value: value, Expires: time.Now().Add(time.Hour).UnixMilli()}
	if !g.values() {
		e.Value, e.Expires = 0, 0
	}
	return g.Append(context.Background(), func() { g.m.Apply([]Change{{e, unshared}}) }, e)
}

func (g *gateway) knows(keys ...string) bool {
	live := g.m.live()
	return !slices.ContainsFunc(keys, func(key string) bool { _, ok := live[key]; return !ok })
}

func (g *gateway) remove(t *testing.T, key string) {
	t.Helper()
	leave := func() { g.m.Confirm([]Entry{{Key: key}}, 0) }
	if existed, err := g.Remove(t.Context(), key, leave); !existed || err != nil {
		t.Fatalf("removing %s: %v %v", key, existed, err)
	}
}

var (
	withoutValues = Keys{Log: "{t}:log", State: "{t}:state", Channel: "{t}"}
	withValues    = Keys{Log: "{t}:log", State: "{t}:state", Expires: "{t}:expires", Channel: "{t}"}
)

// bothKinds runs a test with a log without values and with one that has them.
func bothKinds(t *testing.T, f func(t *testing.T, keys Keys)) {
	t.Run("keys", func(t *testing.T) { f(t, withoutValues) })
	t.Run("values", func(t *testing.T) { f(t, withValues) })
}

func follow(t testing.TB, keys Keys, c redis.UniversalClient, period time.Duration) *gateway {
	t.Helper()
	return followWith(t, Options{Client: c, Keys: keys, Period: period})
}

func unstarted(o Options) *gateway {
	m := &mirror{changes: map[string]Change{}}
	return &gateway{New(m, o), m}
}

func followWith(t testing.TB, o Options) *gateway {
	t.Helper()
	o.Life = 24 * time.Hour
	g := unstarted(o)
	g.Start()
	t.Cleanup(g.Close)
	return g
}

// hasten reads the log of a gateway whose next read is an hour away.
func (g *gateway) hasten() {
	if g.o.Period >= time.Hour {
		g.Read()
	}
}

func ready(t testing.TB, all ...*gateway) {
	t.Helper()
	for _, g := range all {
		testkit.Eventually(t, "reading the log", func() bool {
			if !g.Ready() && g.Stats().Failures > 0 {
				g.hasten()
			}
			return g.Ready()
		})
	}
}

// mustShare appends a key and waits until it is shared, also by a Redis that takes
// longer than a command may: then it is written after the next read.
// TestWithoutHelp is for what is shared at once.
func mustShare(t *testing.T, g *gateway, key string) {
	t.Helper()
	if g.put(key, 1) {
		return
	}
	testkit.Eventually(t, "sharing "+key, func() bool {
		g.hasten()
		shared := false
		g.Unshared(func(has func(key string) bool) { shared = has == nil || !has(key) })
		return shared
	})
}

// A gateway reads the log by itself, and what it appends is shared at once; and so it is
// again after an outage.
func TestWithoutHelp(t *testing.T) {
	bothKinds(t, func(t *testing.T, keys Keys) {
		server := redistest.Start(t)
		g := follow(t, keys, redistest.BackgroundClient(t, server.Addr()), 20*time.Millisecond)
		n := 0
		shares := func() bool {
			n++
			key := fmt.Sprint("key", n)
			shared := g.put(key, 1) // on a busy machine it may not be: then another is tried
			if shared && server.Client().ZScore(t.Context(), keys.Log, key).Err() != nil {
				t.Errorf("%s: not in the log", key)
			}
			return shared
		}
		testkit.Eventually(t, "reading the log", g.Ready)
		testkit.Eventually(t, "sharing", shares)
		server.Kill()
		testkit.Eventually(t, "noticing", func() bool { return !g.Ready() })
		if shares() {
			t.Error("shared without Redis")
		}
		server.Restart()
		testkit.Eventually(t, "reading the log again", g.Ready)
		testkit.Eventually(t, "what was pending", func() bool { return g.Stats().Pending == 0 })
		testkit.Eventually(t, "sharing again", shares)
	})
}

// Changes come by Pub/Sub alone, and by reading alone.
func TestTwoWays(t *testing.T) {
	server := redistest.Start(t)
	bothKinds(t, func(t *testing.T, keys Keys) {
		for name, start := range map[string]func() *gateway{
			"Pub/Sub": func() *gateway { return follow(t, keys, redistest.BackgroundClient(t, server.Addr()), time.Hour) },
			"reading": func() *gateway {
				return follow(t, keys, redistest.WithoutMessages(t, redistest.BackgroundClient(t, server.Addr())), DefaultPeriod)
			},
		} {
			server.Flush()
			a, b := start(), start()
			ready(t, a, b)
			if name == "Pub/Sub" {
				testkit.Eventually(t, "subscriptions", func() bool {
					return server.Client().PubSubNumSub(t.Context(), keys.Channel).Val()[keys.Channel] == 2
				})
			}
			for i := range int64(5) {
				key := string(rune('a' + i))
				mustShare(t, a, key)
				testkit.Eventually(t, name+" "+key, func() bool { return b.knows(key) })
			}
			if keys.Expires != "" {
				b.remove(t, "a")
				testkit.Eventually(t, name+": the removal", func() bool { return !a.knows("a") && !b.knows("a") })
			}
			if s := a.Stats(); s.Lost != 0 || s.Pending != 0 || s.Failures != 0 || s.Appended != 5 {
				t.Errorf("%+v", s)
			}
			a.Close()
			b.Close()
		}
	})
}

// Values of one key are merged, and a removal ends them.
func TestValues(t *testing.T) {
	server := redistest.Start(t)
	a, b := follow(t, withValues, redistest.BackgroundClient(t, server.Addr()), DefaultPeriod), follow(t, withValues, redistest.BackgroundClient(t, server.Addr()), DefaultPeriod)
	ready(t, a, b)
	for i, value := range []int64{5, 9, 7} {
		[]*gateway{a, b, a}[i].put("x", value)
	}
	for _, g := range []*gateway{a, b, follow(t, withValues, redistest.BackgroundClient(t, server.Addr()), DefaultPeriod)} {
		testkit.Eventually(t, "the largest", func() bool { return g.m.live()["x"] == 9 })
	}
	a.remove(t, "x")
	testkit.Eventually(t, "the removal", func() bool { return !a.knows("x") && !b.knows("x") })
	if existed, err := b.Remove(t.Context(), "x", func() {}); existed || err != nil {
		t.Errorf("removed again: %v %v", existed, err)
	}
	b.put("x", 3)
	testkit.Eventually(t, "a value after the removal", func() bool { return a.m.live()["x"] == 3 })
}

// What has expired leaves Redis, and so does what was removed.
func TestExpired(t *testing.T) {
	server := redistest.Start(t)
	a := follow(t, withValues, redistest.BackgroundClient(t, server.Addr()), DefaultPeriod)
	ready(t, a)
	old := time.Now().Add(-time.Hour).UnixMilli()
	for _, key := range []string{"old", "removed"} {
		if !a.Append(t.Context(), func() {}, Entry{Key: key, Value: 1, Expires: old}) {
			t.Fatal("not shared")
		}
	}
	mustShare(t, a, "new")
	c := server.Client()
	for _, key := range []string{"old", "removed"} {
		if c.HExists(t.Context(), withValues.State, key).Val() || c.ZScore(t.Context(), withValues.Log, key).Err() == nil || c.ZScore(t.Context(), withValues.Expires, key).Err() == nil {
			t.Errorf("%s: still there", key)
		}
	}
}

// Duplicates and reordered messages change nothing: in any order, and with gaps
// that reading closes, all replicas become equal.
func TestAnyOrder(t *testing.T) {
	server := redistest.Start(t)
	writer := follow(t, withValues, redistest.BackgroundClient(t, server.Addr()), DefaultPeriod)
	ready(t, writer)
	sub := server.Client().Subscribe(t.Context(), withValues.Channel)
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	var messages []string
	next := func() {
		m, err := sub.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m.Payload)
	}
	for i := range 12 {
		key := string(rune('a' + i%3))
		if i%4 == 3 && writer.knows(key) {
			writer.remove(t, key)
		} else if !writer.put(key, int64(i)) {
			t.Fatal("not shared")
		}
		next()
	}
	want, c := writer.m.live(), redistest.BackgroundClient(t, server.Addr())
	for seed := range 200 {
		g := unstarted(Options{Client: c, Keys: withValues, Life: time.Hour})
		order := append(shuffled(messages, seed), shuffled(messages, seed+1)...)
		for _, m := range order {
			g.receive(m)
		}
		if got := g.m.live(); !maps.Equal(got, want) {
			t.Fatalf("order %q: got %v, want %v", order, got, want)
		}
		// With gaps, and read at any moment.
		gaps := unstarted(Options{Client: c, Keys: withValues, Life: time.Hour})
		for i, m := range order[seed%len(messages):] {
			if i%3 != 0 {
				gaps.receive(m)
			}
		}
		if err := gaps.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := gaps.m.live(); !maps.Equal(got, want) {
			t.Fatalf("with gaps: got %v, want %v", got, want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("1 2 name h1 s2 h262144", false)
	f.Add("1 2 name a:3:4 b:-:5", true)
	f.Fuzz(func(t *testing.T, s string, values bool) {
		m, ok := parseMessage(s, values)
		if ok && len(m.changes) == 0 {
			t.Error("a message without changes")
		}
		for _, c := range m.changes {
			if c.Value < 0 || c.Expires < 0 || c.Key == "" && !values {
				t.Errorf("%q: %+v", s, c)
			}
		}
		_, _ = parsePosition(s)
	})
}
