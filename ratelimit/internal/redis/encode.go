package redis

import (
	"fmt"

	"github.com/pythopus/tentagate/ratelimit/internal/gcra"
)

// encoder builds the arguments of one script call from many requests, so that
// every key and every plan is named once.
type encoder struct {
	keys   map[string]int
	names  []any
	plans  []*gcra.Plan
	body   []any
	merged []any
	// plain is true while the special script for single limits will do.
	plain bool
	// same is true while the special script for equal requests will do: each takes
	// cost units, of the key that where has for it.
	same  bool
	cost  int64
	where []int
	// flat is the latest reply.
	flat   []int64
	counts []int
}

func (e *encoder) reset() {
	if e.keys == nil {
		e.keys = make(map[string]int)
	}
	clear(e.keys)
	clear(e.names)
	clear(e.plans)
	clear(e.body)
	clear(e.merged)
	e.plain, e.same = true, true
	e.names, e.plans, e.body, e.merged = e.names[:0], e.plans[:0], e.body[:0], e.merged[:0]
	e.where = e.where[:0]
}

func (e *encoder) key(k string) int {
	if i, ok := e.keys[k]; ok {
		return i
	}
	e.names = append(e.names, k)
	e.keys[k] = len(e.names)
	return len(e.names)
}

func (e *encoder) plan(p *gcra.Plan) int {
	for i, have := range e.plans {
		if have == p {
			return i + 1
		}
	}
	e.plans = append(e.plans, p)
	e.plain = e.plain && len(p.Policies()) == 1
	return len(e.plans)
}

// add appends a request for one call, or for several that are decided together.
func (e *encoder) add(k kind, calls []Call) {
	e.plain = e.plain && k == take && len(calls) == 1
	c := &calls[0]
	if len(e.where) == 0 {
		e.cost = c.Cost
	}
	e.same = e.same && c.Cost > 0 && c.Cost == e.cost
	switch {
	case k != take:
		e.body = append(e.body, -e.key(c.name), int(k), e.plan(c.Plan), c.Cost)
	case len(calls) == 1:
		key := e.key(c.name)
		e.body = append(e.body, key, e.plan(c.Plan), c.Cost)
		e.where = append(e.where, key-1)
	default:
		e.body = append(e.body, 0, len(calls))
		for i := range calls {
			c := &calls[i]
			e.body = append(e.body, e.key(c.name), e.plan(c.Plan), c.Cost)
		}
	}
}

// equal reports whether the script for equal requests can decide these.
func (e *encoder) equal() bool { return e.plain && e.same && len(e.plans) == 1 }

// script returns the script that can decide the requests.
func (e *encoder) script() script {
	switch {
	case e.equal():
		return decideSameScript
	case e.plain:
		return decideOneScript
	}
	return decideScript
}

// evalsha and eval return the command, by the script's hash or its text. It is
// valid until the next.
func (e *encoder) evalsha() []any { return e.command("evalsha", e.script().hash) }

func (e *encoder) eval() []any { return e.command("eval", e.script().source) }

func (e *encoder) command(verb, script string) []any {
	m := append(e.merged[:0], verb, script, len(e.names))
	m = append(m, e.names...)
	if e.equal() {
		p := e.plans[0].Policies()[0]
		m = append(m, micros(p.T), micros(p.Tau), e.cost)
		if e.shared() {
			for _, n := range e.count() {
				m = append(m, n)
			}
		}
		e.merged = m
		return m
	}
	m = append(m, len(e.plans))
	for _, p := range e.plans {
		m = appendPlan(m, p)
	}
	e.merged = append(m, e.body...)
	return e.merged
}

// shared reports whether some key has several of the equal requests.
func (e *encoder) shared() bool { return len(e.where) > len(e.names) }

// count returns the number of equal requests of each key.
func (e *encoder) count() []int {
	e.counts = append(e.counts[:0], make([]int, len(e.names))...)
	for _, i := range e.where {
		e.counts[i]++
	}
	return e.counts
}

// reply turns a reply into what the decide script would have answered: for each
// request its first number, and the debts.
func (e *encoder) reply(values []any) ([]int64, error) {
	flat := e.flat[:0]
	for _, v := range values {
		n, ok := v.(int64)
		if !ok {
			return nil, fmt.Errorf("%w: %T instead of a number", errReply, v)
		}
		flat = append(flat, n)
	}
	e.flat = flat
	if !e.equal() {
		return flat, nil
	}
	return e.spread(flat)
}

// spread gives each of equal requests its part of the answer about its key.
func (e *encoder) spread(flat []int64) ([]int64, error) {
	if !e.shared() {
		if len(flat) != 2*len(e.where) {
			return nil, fmt.Errorf("%w: %d numbers for %d requests", errReply, len(flat), len(e.where))
		}
		// Every key has one request, in the same order.
		return flat, nil
	}
	counts := e.count()
	if len(flat) != 3*len(counts) {
		return nil, fmt.Errorf("%w: %d numbers for %d keys", errReply, len(flat), len(counts))
	}
	for i, n := range counts {
		if m, wait := flat[3*i], flat[3*i+1]; m < 0 || m > int64(n) || m < int64(n) && wait <= 0 {
			return nil, fmt.Errorf("%w: %d of %d requests, the next in %d µs", errReply, m, n, wait)
		}
	}
	step := e.cost * e.plans[0].Policies()[0].T
	e.flat = flat
	clear(counts)
	for _, i := range e.where {
		m, wait, debt := flat[3*i], flat[3*i+1], flat[3*i+2]
		counts[i]++
		if later := m - int64(counts[i]); later >= 0 {
			// Those that came later took their units after it.
			wait, debt = 0, debt-later*step/1000
		}
		e.flat = append(e.flat, wait, debt)
	}
	return e.flat[len(flat):], nil
}
