package gcra

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Unit is the calendar period of a quota. Periods begin at midnight UTC, weeks
// on Monday.
type Unit string

// The calendar periods.
const (
	Hour  Unit = "hour"
	Day   Unit = "day"
	Week  Unit = "week"
	Month Unit = "month"
	Year  Unit = "year"
)

// Quota is a number of units per calendar period, as for billing: it is reset at
// the end of the period.
type Quota struct {
	// Count is the number of units per period, at least 1.
	Count int64

	// Unit is the period.
	Unit Unit
}

// maxQuota keeps counters exact in the doubles of a Redis script.
const maxQuota = 1_000_000_000_000_000

// ParseQuota reads `<count>/<hour|day|week|month|year>`.
func ParseQuota(text string) (Quota, error) {
	count, unit, ok := strings.Cut(strings.TrimSpace(text), "/")
	if !ok {
		return Quota{}, fmt.Errorf("%q is not a quota: write <count>/<hour|day|week|month|year>, such as 1000000/month", text)
	}
	n, err := strconv.ParseUint(count, 10, 63)
	if err != nil {
		return Quota{}, fmt.Errorf("quota %q: %q is not a whole number above zero", text, count)
	}
	q := Quota{Count: int64(n), Unit: Unit(unit)}
	if err := q.Check(); err != nil {
		return Quota{}, fmt.Errorf("quota %q: %w", text, err)
	}
	return q, nil
}

// Check reports what is wrong with a quota.
func (q Quota) Check() error {
	if q.Count < 1 || q.Count > maxQuota {
		return fmt.Errorf("count %d is not within 1 to %d", q.Count, int64(maxQuota))
	}
	if q.Unit.Length() == 0 {
		return fmt.Errorf("unknown period %q: accepted are hour, day, week, month, year", string(q.Unit))
	}
	return nil
}

// String writes the quota as ParseQuota reads it.
func (q Quota) String() string { return strconv.FormatInt(q.Count, 10) + "/" + string(q.Unit) }

// Length returns the usual length of the period, 0 for an unknown one.
func (u Unit) Length() time.Duration {
	const day = 24 * time.Hour
	switch u {
	case Hour:
		return time.Hour
	case Day:
		return day
	case Week:
		return 7 * day
	case Month:
		return 30 * day
	case Year:
		return 365 * day
	}
	return 0
}

// Start returns the start of the period that contains t.
func (u Unit) Start(t time.Time) time.Time {
	t = t.UTC()
	y, m, d := t.Date()
	switch u {
	case Hour:
		return t.Truncate(time.Hour)
	case Week:
		// time.Weekday counts from Sunday.
		return time.Date(y, m, d-(int(t.Weekday())+6)%7, 0, 0, 0, 0, time.UTC)
	case Month:
		return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
	case Year:
		return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)
	case Day:
	}
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// Next returns the start of the period after the one that contains t.
func (u Unit) Next(t time.Time) time.Time {
	s := u.Start(t)
	switch u {
	case Hour:
		return s.Add(time.Hour)
	case Week:
		return s.AddDate(0, 0, 7)
	case Month:
		return s.AddDate(0, 1, 0)
	case Year:
		return s.AddDate(1, 0, 0)
	case Day:
	}
	return s.AddDate(0, 0, 1)
}
