package gcra

// Meter is the state of one limit or quota after a decision.
type Meter struct {
	// Remaining is the number of units still available.
	Remaining int64

	// Reset is the time in nanoseconds until more are, 0 when all are.
	Reset int64

	// Over is true if this meter is a reason for the refusal.
	Over bool
}

// Source is where a decision was made.
type Source uint8

// The sources of a decision.
const (
	// Memory is this process' own state.
	Memory Source = iota

	// Shared is the state in Redis.
	Shared

	// Remembered is a refusal of Redis that still holds.
	Remembered

	// Lease is a number of units reserved in Redis in advance.
	Lease

	// Local is this instance's share while Redis is unreachable.
	Local

	// Unchecked is an admission without state: Redis is unreachable, and the
	// fallback is to allow.
	Unchecked

	// Unavailable is a refusal without state: Redis is unreachable, and the fallback
	// is to deny.
	Unavailable
)

var sourceNames = [...]string{"memory", "redis", "remembered", "lease", "local", "unchecked", "unavailable"}

// String returns the name of the source as metrics use it.
func (s Source) String() string { return sourceNames[s] }

// Sources is the number of sources.
const Sources = len(sourceNames)

// Decision is the answer to one request for units.
type Decision struct {
	// Wait is 0 if the units were taken, else the time in nanoseconds until they are
	// available if nobody else takes them, or Never.
	Wait int64

	// Delay is the time in nanoseconds by which an admitted request has to be
	// delayed, under a plan with a delay.
	Delay int64

	// At identifies the admission for a refund from an exact log: its time on
	// the clock of the store.
	At int64

	// Source is where the decision was made.
	Source Source

	// Len is the number of meters, 0 if there was no state.
	Len int

	// Meters are in the order of the plan.
	Meters [MaxMeters]Meter
}

// Admitted reports whether the units were taken.
func (d *Decision) Admitted() bool { return d.Wait == 0 }

// Fill sets the meters of the plan's limits from their TATs after a decision about
// cost units at now.
func (d *Decision) Fill(plan *Plan, tats []int64, now, cost int64) {
	d.Delay = 0
	for i, p := range plan.policies {
		tat := p.Clamp(tats[i], now)
		over := d.Wait > 0 && p.Wait(tat, now, cost) > 0
		// Remaining is what is available without a delay.
		p.Tau -= plan.delay
		d.Meters[i] = Meter{Remaining: max(0, p.Remaining(tat, now)), Reset: p.Reset(tat, now), Over: over}
		if d.Wait == 0 {
			d.Delay = max(d.Delay, tat-now-p.Tau)
		}
	}
}
