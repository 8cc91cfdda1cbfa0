package gcra

import "math"

// Never is the wait of a request that costs more than the burst.
const Never = math.MaxInt64

// MaxCost is the largest cost of one request.
const MaxCost = MaxCount

// Policy is a limit in the form that the algorithm takes, in nanoseconds.
type Policy struct {
	// T is the emission interval, the time per unit.
	T int64

	// Tau is the tolerance, burst·T: how far ahead of now the TAT may be.
	Tau int64
}

// Clamp returns the TAT at now: idle is now, and a TAT beyond the tolerance (the
// clock was set back, or the limit was lowered) is brought back to it, so that no
// key is refused for longer than its limit says.
func (p Policy) Clamp(tat, now int64) int64 {
	return min(max(tat, now), now+p.Tau)
}

// Wait returns for how long cost units are not available at a clamped TAT: 0
// when they are, Never when they never will be.
func (p Policy) Wait(tat, now, cost int64) int64 {
	// A division, as cost·T may overflow.
	if cost > p.Tau/p.T {
		return Never
	}
	return max(0, tat+cost*p.T-p.Tau-now)
}

// Take returns the TAT after cost units were taken. The caller has checked Wait.
func (p Policy) Take(tat, cost int64) int64 { return tat + cost*p.T }

// Refund returns the TAT after cost units were given back, at least now: the
// bucket is full then.
func (p Policy) Refund(tat, now, cost int64) int64 {
	if cost > p.Tau/p.T {
		return now
	}
	return max(now, tat-cost*p.T)
}

// Remaining returns how many units are available at a clamped TAT.
func (p Policy) Remaining(tat, now int64) int64 { return max(0, p.Tau-(tat-now)) / p.T }

// Reset returns the time until one more unit than Remaining is available, and
// 0 when the bucket is full.
func (p Policy) Reset(tat, now int64) int64 {
	debt := tat - now
	if debt <= 0 {
		return 0
	}
	// The debt falls by one unit's worth when it crosses a multiple of T below
	// the tolerance.
	return debt - (p.Tau - (p.Remaining(tat, now)+1)*p.T)
}

// Decide admits cost units under all policies or none. It updates tats, the TAT
// of each policy: clamped, and moved forward when the units were taken. It returns
// 0 when they were, else the time to wait. A cost of 0 takes nothing; a negative
// cost gives units back and is never refused.
func Decide(policies []Policy, tats []int64, now, cost int64) int64 {
	tats = tats[:len(policies)]
	wait := int64(0)
	for i, p := range policies {
		tats[i] = p.Clamp(tats[i], now)
		if cost >= 0 {
			wait = max(wait, p.Wait(tats[i], now, cost))
		}
	}
	if wait > 0 {
		return wait
	}
	for i, p := range policies {
		if cost < 0 {
			tats[i] = p.Refund(tats[i], now, -cost)
		} else {
			tats[i] = p.Take(tats[i], cost)
		}
	}
	return 0
}
