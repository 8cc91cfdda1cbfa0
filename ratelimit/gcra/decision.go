package gcra

// Meter is the state of one limit or quota after a decision.
type Meter struct {
	// Remaining is the number of units still available.
	Remaining int64

	// Reset is the time in nanoseconds until more are, 0 when all are.
	Reset int64

	// Over tells that this meter is a reason for the refusal.
	Over bool
}

// Decision is the answer to one request for units.
type Decision struct {
	// Wait is 0 when the units were taken, else the time in nanoseconds after
	// which they will be available if nobody else takes them, or Never.
	Wait int64

	// At identifies the admission for a refund from an exact log: its time on
	// the clock of the store.
	At int64

	// Len is the number of meters.
	Len int

	// Meters are those of the plan, in its order.
	Meters [MaxMeters]Meter
}

// Admitted reports whether the units were taken.
func (d *Decision) Admitted() bool { return d.Wait == 0 }

// Fill sets the meters of the plan's limits from their TATs after the decision
// over cost units at now.
func (d *Decision) Fill(policies []Policy, tats []int64, now, cost int64) {
	for i, p := range policies {
		tat := p.Clamp(tats[i], now)
		d.Meters[i] = Meter{
			Remaining: p.Remaining(tat, now),
			Reset:     p.Reset(tat, now),
			Over:      d.Wait > 0 && p.Wait(tat, now, cost) > 0,
		}
	}
}
