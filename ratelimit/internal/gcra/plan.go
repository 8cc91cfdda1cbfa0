package gcra

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// MaxMeters is the largest number of limits and quotas on one key.
const MaxMeters = 8

// Algorithm is how the limits of a plan are counted.
type Algorithm uint8

// The algorithms.
const (
	// Rate is GCRA: at most Burst + D·Count/Period units in any interval D.
	Rate Algorithm = iota

	// Window is an exact log: at most Count units in any interval of length
	// Period. It costs eight bytes per unit.
	Window
)

// MaxWindowCount is the largest count of a limit under Window.
const MaxWindowCount = 10_000

// Plan is a set of limits on one key, decided together. It is immutable.
type Plan struct {
	algorithm Algorithm
	limits    []Limit
	policies  []Policy
	quotas    []Quota
	names     []string
	delay     int64
	share     atomic.Pointer[share]
}

// share caches the part of a plan for a number of instances.
type share struct {
	n    int
	plan *Plan
}

// NewPlan returns the plan of the given limits and quotas. The limits are sorted
// by their periods, so that counters do not depend on the order in which they are
// written.
func NewPlan(algorithm Algorithm, limits []Limit, quotas []Quota) (*Plan, error) {
	if len(limits)+len(quotas) == 0 {
		return nil, errors.New("no limit: a plan needs at least one")
	}
	if n := len(limits) + len(quotas); n > MaxMeters {
		return nil, fmt.Errorf("%d limits on one key: at most %d are possible", n, MaxMeters)
	}
	p := &Plan{algorithm: algorithm, limits: slices.Clone(limits), quotas: slices.Clone(quotas)}
	slices.SortStableFunc(p.limits, func(a, b Limit) int { return int(min(1, max(-1, int64(a.Period-b.Period)))) })
	for i, l := range p.limits {
		if err := l.Check(); err != nil {
			return nil, fmt.Errorf("limit %s: %w", l, err)
		}
		if algorithm == Window {
			if l.Count > MaxWindowCount {
				return nil, fmt.Errorf("limit %s: a sliding window stores every unit, so its count is at most %d", l, MaxWindowCount)
			}
			if l.Burst != l.Count {
				return nil, fmt.Errorf("limit %s: a sliding window has no burst", l)
			}
		}
		p.policies = append(p.policies, l.Policy())
		name := periodName(l.Period)
		for n := 2; slices.Contains(p.names, name); n++ {
			name = fmt.Sprintf("%s-%d", periodName(p.limits[i].Period), n)
		}
		p.names = append(p.names, name)
	}
	for i, q := range p.quotas {
		if err := q.Check(); err != nil {
			return nil, fmt.Errorf("quota %s: %w", q, err)
		}
		if slices.ContainsFunc(p.quotas[:i], func(o Quota) bool { return o.Unit == q.Unit }) {
			return nil, fmt.Errorf("quota %s: there is another one per %s", q, q.Unit)
		}
		p.names = append(p.names, string(q.Unit))
	}
	return p, nil
}

// Algorithm returns how the limits are counted.
func (p *Plan) Algorithm() Algorithm { return p.algorithm }

// Limits returns the limits, shortest period first. It must not be changed.
func (p *Plan) Limits() []Limit { return p.limits }

// Policies returns the policies of the limits. It must not be changed.
func (p *Plan) Policies() []Policy { return p.policies }

// Quotas returns the quotas. It must not be changed.
func (p *Plan) Quotas() []Quota { return p.quotas }

// Simple reports whether the state is one TAT per limit.
func (p *Plan) Simple() bool { return p.algorithm == Rate && len(p.quotas) == 0 }

// Len returns the number of meters: limits first, then quotas.
func (p *Plan) Len() int { return len(p.limits) + len(p.quotas) }

// Name returns a name of meter i that is unique in the plan: its period.
func (p *Plan) Name(i int) string { return p.names[i] }

// Text returns the limit or quota of meter i as an operator writes it, after the name of
// its option.
func (p *Plan) Text(i int) (option, value string) {
	if i < len(p.limits) {
		return "limit", p.limits[i].String()
	}
	return "quota", p.quotas[i-len(p.limits)].String()
}

// Capacity returns the most units of meter i that can be available at once.
func (p *Plan) Capacity(i int) int64 {
	if i < len(p.limits) {
		return p.limits[i].Burst
	}
	return p.quotas[i-len(p.limits)].Count
}

// PerSecond returns the sustained rate of the strictest meter, in units per
// second.
func (p *Plan) PerSecond() float64 {
	var rate float64
	for i, l := range p.limits {
		if r := float64(l.Count) / l.Period.Seconds(); i == 0 || r < rate {
			rate = r
		}
	}
	for _, q := range p.quotas {
		if r := float64(q.Count) / q.Unit.Length().Seconds(); rate == 0 || r < rate {
			rate = r
		}
	}
	return rate
}

// Shortest returns the shortest period of the limits, and 0 without limits.
func (p *Plan) Shortest() time.Duration {
	if len(p.limits) == 0 {
		return 0
	}
	return p.limits[0].Period
}

// WithDelay returns the plan in which units may be taken up to the given time
// before they are available, by requests that are delayed until then.
func (p *Plan) WithDelay(d time.Duration) (*Plan, error) {
	if p.algorithm == Window {
		return nil, errors.New("a sliding window cannot delay requests: it only admits or refuses")
	}
	if d <= 0 || d > time.Minute {
		return nil, fmt.Errorf("delay %v is not within 0s and 1m", d)
	}
	delayed := &Plan{algorithm: p.algorithm, limits: p.limits, quotas: p.quotas, names: p.names, delay: int64(d)}
	for _, policy := range p.policies {
		policy.Tau += int64(d)
		delayed.policies = append(delayed.policies, policy)
	}
	return delayed, nil
}

// Share returns the plan that one of n equal instances may use alone.
func (p *Plan) Share(n int) *Plan {
	if n <= 1 {
		return p
	}
	if s := p.share.Load(); s != nil && s.n == n {
		return s.plan
	}
	part := &Plan{algorithm: p.algorithm, names: p.names, delay: p.delay}
	for _, l := range p.limits {
		if p.algorithm == Window {
			l.Count = max(1, l.Count/int64(n))
			l.Burst = l.Count
		} else {
			l = l.Share(n)
		}
		part.limits = append(part.limits, l)
		policy := l.Policy()
		policy.Tau += p.delay
		part.policies = append(part.policies, policy)
	}
	for _, q := range p.quotas {
		q.Count = max(1, q.Count/int64(n))
		part.quotas = append(part.quotas, q)
	}
	p.share.Store(&share{n, part})
	return part
}

// String lists the limits and quotas; equal plans have equal texts.
func (p *Plan) String() string {
	parts := make([]string, 0, p.Len()+1)
	if p.algorithm == Window {
		parts = append(parts, "sliding_window")
	}
	for _, l := range p.limits {
		parts = append(parts, l.String())
	}
	for _, q := range p.quotas {
		parts = append(parts, "quota "+q.String())
	}
	return strings.Join(parts, ", ")
}
