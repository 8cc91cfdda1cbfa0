package redis

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/internal/redistest"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
	"github.com/pythopus/tentagate/ratelimit/internal/gcra/gcratest"
)

// model decides as the script does, by another arithmetic: it knows no TATs,
// but how much of each bucket is used, in microseconds' worth of rate, and when
// that was so.
type model map[string][]bucket

type bucket struct {
	used, at float64
}

func (m model) used(key string, i int, now float64) float64 {
	for len(m[key]) <= i {
		m[key] = append(m[key], bucket{})
	}
	b := m[key][i]
	return math.Max(0, b.used-(now-b.at))
}

func (m model) set(key string, i int, used, now float64) { m[key][i] = bucket{math.Max(0, used), now} }

// us is nanoseconds as the script's microseconds.
func us(ns int64) float64 { return float64(ns) / 1000 }

func (m model) wait(c Call, now float64) float64 {
	wait := 0.0
	for i, p := range c.Plan.Policies() {
		used := math.Min(m.used(c.name, i, now), us(p.Tau))
		wait = math.Max(wait, used+float64(c.Cost)*us(p.T)-us(p.Tau))
	}
	return wait
}

func (m model) take(c Call, units int64, now float64) {
	for i, p := range c.Plan.Policies() {
		m.set(c.name, i, math.Min(m.used(c.name, i, now), us(p.Tau))+float64(units)*us(p.T), now)
	}
}

func (m model) debts(c Call, now float64) (debts []float64) {
	for i, p := range c.Plan.Policies() {
		debts = append(debts, math.Min(m.used(c.name, i, now), us(p.Tau)))
	}
	return debts
}

// request returns what the script should answer: the first number, and the
// debts.
func (m model) request(k kind, calls []Call, now float64) (first float64, debts []float64) {
	// A bucket that is fuller than the plan allows is brought back to it.
	for _, c := range calls {
		for i, debt := range m.debts(c, now) {
			m.set(c.name, i, debt, now)
		}
	}
	switch k {
	case take:
		for _, c := range calls {
			if c.Cost >= 0 {
				first = math.Max(first, m.wait(c, now))
			}
		}
		if first <= 0 {
			for _, c := range calls {
				m.take(c, c.Cost, now)
			}
		}
	case lease:
		c := calls[0]
		units := float64(c.Cost)
		for i, p := range c.Plan.Policies() {
			room := math.Floor((us(p.Tau) - math.Min(m.used(c.name, i, now), us(p.Tau))) / us(p.T))
			units = math.Min(units, math.Ceil(room/2))
		}
		if units > 0 {
			m.take(c, int64(units), now)
			first = units
		} else {
			c.Cost = 1
			first = -m.wait(c, now)
		}
	case debit:
		c := calls[0]
		for i, p := range c.Plan.Policies() {
			m.set(c.name, i, math.Min(us(p.Tau), math.Min(m.used(c.name, i, now), us(p.Tau))+float64(c.Cost)*us(p.T)), now)
		}
	}
	for _, c := range calls {
		debts = append(debts, m.debts(c, now)...)
	}
	return first, debts
}

// slack is how much longer keys are kept in tests with a clock of their own.
const slack = time.Hour

// withClock makes the script read the time from a key instead of the clock, so
// that the model and Redis agree about it.
func withClock(source string) string {
	for _, call := range []string{"redis.call('TIME')", "call('TIME')"} {
		if strings.Contains(source, call) {
			source = strings.Replace(source, call, "{ redis.call('GET', 'clock:s'), redis.call('GET', 'clock:us') }", 1)
			// Keys expire by real time, which must not be ahead of the model's.
			return strings.Replace(source, "ceil((far - now) / 1000)", fmt.Sprintf("%d + ceil((far - now) / 1000)", slack.Milliseconds()), 1)
		}
	}
	return source
}

// Random requests of all kinds, in batches, several plans on one key, against
// the model: not one decision differs.
func TestScriptAgainstModel(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	ctx := context.Background()
	sources := make(map[string]string)
	for _, source := range []string{decideSource, decideOneSource, decideSameSource} {
		// Whatever it is called by, the script asks for the time once.
		sources[source] = withClock(source)
	}
	for source, changed := range sources {
		if source == changed {
			t.Fatal("the script does not ask for the time")
		}
	}
	used := map[string]int{}
	rng := rand.New(rand.NewPCG(11, 12))
	const batches = 2500
	decisions, different := 0, 0
	m := model{}
	now := int64(60_000_000_000_000) // µs since 2025
	var plans []*gcra.Plan
	for range 12 {
		var limits []string
		for range 1 + rng.IntN(3) {
			// A whole number of microseconds per unit: then both arithmetics are exact,
			// and not even the last place may differ.
			count := 1 + rng.IntN(40)
			limits = append(limits, fmt.Sprintf("%d/%dms burst %d", count, count*(1+rng.IntN(100)), 1+rng.IntN(60)))
		}
		plans = append(plans, gcratest.Plan(t, gcra.Rate, limits...))
	}
	single := []*gcra.Plan{gcratest.Plan(t, gcra.Rate, "10/70ms burst 30"), gcratest.Plan(t, gcra.Rate, "3/900ms")}
	for b := range batches {
		now += rng.Int64N(200_000)
		var enc encoder
		enc.reset()
		type request struct {
			k     kind
			calls []Call
		}
		var requests []request
		// Two of three batches are for the special scripts, which work on the same
		// keys: one limit each, and the same units of the same limit for all.
		plain, same := b%3 != 0, b%3 == 2
		keys := []int{3, 8, 16}[rng.IntN(3)]
		for range 1 + rng.IntN(40) {
			n := 1
			k := kind(0)
			switch rng.IntN(10) {
			case 0:
				k = lease
			case 1:
				k = debit
			case 2, 3:
				n = 2 + rng.IntN(2)
			}
			if plain {
				k, n = take, 1
			}
			var calls []Call
			for i := range n {
				// Each key of a joint request is another one, as zones are.
				key := fmt.Sprintf("k%d-%d", i, rng.IntN(keys))
				p := plans[(rng.IntN(2)+len(key)+int(key[3]))%len(plans)]
				if plain {
					p = single[int(key[3])%len(single)]
				}
				cost := int64(rng.IntN(5)) - 1
				if same {
					p, cost = single[b%len(single)], 1+int64(b/3%3)
				}
				if n > 1 || k != take {
					cost = 1 + int64(rng.IntN(3))
				}
				calls = append(calls, Call{name: key, Plan: p, Cost: cost})
			}
			requests = append(requests, request{k, calls})
			enc.add(k, calls)
		}
		// The server's clock counts from 1970.
		abs := now + 1735689600*1_000_000
		if err := client.MSet(ctx, "clock:s", abs/1_000_000, "clock:us", abs%1_000_000).Err(); err != nil {
			t.Fatal(err)
		}
		values, err := client.Do(ctx, enc.command("eval", sources[enc.script().source])...).Slice()
		if err != nil {
			t.Fatal(err)
		}
		used[enc.script().source] += len(requests)
		numbers, err := enc.reply(values)
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{numbers}
		for i, req := range requests {
			decisions++
			first, debts := m.request(req.k, req.calls, float64(now))
			got, err := r.next()
			if err != nil {
				t.Fatal(err)
			}
			if float64(got) != first {
				different++
				t.Errorf("batch %d request %d (%d %+v): answer %d, want %v", b, i, req.k, req.calls, got, first)
			}
			for j, want := range debts {
				if got, _ := r.next(); float64(got) != want {
					different++
					t.Errorf("batch %d request %d: debt %d is %d, want %v", b, i, j, got, want)
				}
			}
			if different > 5 {
				t.FailNow()
			}
		}
		if len(r.values) != 0 {
			t.Fatalf("%d values too many", len(r.values))
		}
		if b%50 == 0 {
			checkTTL(t, client, now)
		}
	}
	if decisions < 20_000 {
		t.Errorf("only %d decisions", decisions)
	}
	t.Logf("%d decisions, %d different; %d by the general script, %d by that for single limits, %d by that for equal requests",
		decisions, different, used[decideSource], used[decideOneSource], used[decideSameSource])
	for source := range sources {
		if used[source] < 5000 {
			t.Errorf("only %d decisions by %s", used[source], strings.SplitN(source, ":", 2)[0])
		}
	}
}

// checkTTL checks that keys are kept until they are idle: no longer, and not a
// millisecond less.
func checkTTL(t *testing.T, client *redis.Client, now int64) {
	t.Helper()
	ctx := context.Background()
	keys, err := client.Keys(ctx, "k*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		text, err := client.Get(ctx, key).Result()
		if err != nil {
			continue
		}
		far := 0.0
		for f := range strings.FieldsSeq(text) {
			v, err := strconv.ParseFloat(f, 64)
			if err != nil {
				t.Fatalf("%s = %q", key, text)
			}
			far = math.Max(far, v)
		}
		ttl, err := client.PTTL(ctx, key).Result()
		if ttl == -2 {
			continue // it has just expired
		}
		if err != nil || ttl < 0 {
			t.Fatalf("%s has no expiry: %v %v", key, ttl, err)
		}
		ttl -= slack
		// It was written a while ago by the model's clock.
		if most := time.Duration(math.Ceil((far-float64(now))/1000)) * time.Millisecond; far > float64(now) && ttl > most+time.Minute {
			t.Errorf("%s expires in %v, idle in %v", key, ttl, most)
		}
	}
}

// The expiry is exactly the time until the bucket is full.
func TestExpiryIsIdleness(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	ctx := context.Background()
	e := newTestEngine(t, client, false)
	z := e.NewZone("z", 0)
	p := gcratest.Plan(t, gcra.Rate, "10/100s burst 50", "100/1000s burst 3")
	var d gcra.Decision
	c := Call{Zone: z, Key: "k", Plan: p, Cost: 2, Budget: 5 * time.Second, Decision: &d}
	c.Decide()
	if !d.Admitted() || d.Source != gcra.Shared {
		t.Fatalf("%+v", d)
	}
	ttl, err := client.PTTL(ctx, e.redisKey(partition("z", "k"), "z", "k")).Result()
	if err != nil || ttl > 20*time.Second || ttl < 15*time.Second {
		t.Errorf("ttl %v, %v; want 20s", ttl, err)
	}
}
