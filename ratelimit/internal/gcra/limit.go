package gcra

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of a limit. They keep every product of the arithmetic within 63 bits and
// the rounding of the emission interval below 0.1 %.
const (
	// MaxCount is the largest number of units of a limit, and its largest burst.
	MaxCount = 1_000_000_000

	// MinPeriod and MaxPeriod are the shortest and the longest period.
	MinPeriod = time.Millisecond
	MaxPeriod = 366 * 24 * time.Hour

	// minInterval is the shortest time between two units: a million per second.
	minInterval = time.Microsecond

	// maxTolerance is the longest time in which a burst may refill.
	maxTolerance = 10 * 366 * 24 * time.Hour
)

// Limit is a rate as an operator writes it: Count units per Period, of which
// Burst may come at once.
type Limit struct {
	// Count is the number of units per Period, 1 to MaxCount.
	Count int64

	// Period is the time in which Count units become available again.
	Period time.Duration

	// Burst is the number of units that may be taken at once after an idle time.
	Burst int64
}

// ParseLimit reads `<count>/<period> [burst <n>]`, such as 100/1m or
// 10/1s burst 20. The period is a duration (500ms, 1m, 1h30m, 1d) or a unit
// alone (s, m, h, d).
func ParseLimit(text string) (Limit, error) {
	fields := strings.Fields(text)
	if len(fields) != 1 && (len(fields) != 3 || fields[1] != "burst") {
		return Limit{}, fmt.Errorf("%q is not a limit: write <count>/<period> [burst <n>], such as 100/1m or 10/1s burst 20", text)
	}
	count, period, ok := strings.Cut(fields[0], "/")
	if !ok {
		return Limit{}, fmt.Errorf("%q has no period: write <count>/<period>, such as 100/1m", fields[0])
	}
	var l Limit
	var err error
	if l.Count, err = parseCount(count); err != nil {
		return Limit{}, fmt.Errorf("count of %q: %w", text, err)
	}
	if l.Period, err = parsePeriod(period); err != nil {
		return Limit{}, fmt.Errorf("period of %q: %w", text, err)
	}
	l.Burst = l.Count
	if len(fields) == 3 {
		if l.Burst, err = parseCount(fields[2]); err != nil {
			return Limit{}, fmt.Errorf("burst of %q: %w", text, err)
		}
	}
	if err := l.Check(); err != nil {
		return Limit{}, fmt.Errorf("%q: %w", text, err)
	}
	return l, nil
}

func parseCount(s string) (int64, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is not a whole number from 1 to %d", s, MaxCount)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > MaxCount {
		return 0, fmt.Errorf("%q is not a whole number from 1 to %d", s, MaxCount)
	}
	return n, nil
}

// parsePeriod reads the period of a limit: a duration of time.ParseDuration,
// in which d stands for 24 hours, or a unit alone.
func parsePeriod(s string) (time.Duration, error) {
	text := s
	if s != "" && (s[0] < '0' || s[0] > '9') {
		text = "1" + s
	}
	var days time.Duration
	if head, tail, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 16)
		if err != nil {
			return 0, badPeriod(s)
		}
		days, text = time.Duration(n)*24*time.Hour, tail
		if text == "" {
			text = "0s"
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > MaxPeriod {
		return 0, badPeriod(s)
	}
	if d += days; d < MinPeriod || d > MaxPeriod {
		return 0, badPeriod(s)
	}
	return d, nil
}

func badPeriod(s string) error {
	return fmt.Errorf("%q is not a duration from %v to 366d, such as 1s, 1m, 1h or 1d", s, MinPeriod)
}

// Check reports what is wrong with a limit.
func (l Limit) Check() error {
	switch {
	case l.Count < 1 || l.Count > MaxCount:
		return fmt.Errorf("count %d is not within 1 to %d", l.Count, MaxCount)
	case l.Burst < 1 || l.Burst > MaxCount:
		return fmt.Errorf("burst %d is not within 1 to %d", l.Burst, MaxCount)
	case l.Period < MinPeriod || l.Period > MaxPeriod:
		return fmt.Errorf("period %v is not within %v to 366d", l.Period, MinPeriod)
	case int64(l.Period)/l.Count < int64(minInterval):
		return errors.New("the rate is above 1000000 per second")
	case l.interval() > int64(maxTolerance)/l.Burst:
		return errors.New("the burst takes more than ten years to refill")
	}
	return nil
}

// interval is the time per unit, rounded up so that rounding never admits more.
func (l Limit) interval() int64 {
	return (int64(l.Period) + l.Count - 1) / l.Count
}

// Policy returns the limit in the form that the algorithm takes.
func (l Limit) Policy() Policy {
	t := l.interval()
	return Policy{T: t, Tau: t * l.Burst}
}

// Share returns the part of the limit that one of n equal instances may use
// alone. Parts are rounded up to one unit, so together they are at most the
// burst plus n.
func (l Limit) Share(n int) Limit {
	if n <= 1 {
		return l
	}
	part := l
	part.Burst = max(1, l.Burst/int64(n))
	if l.Period <= math.MaxInt64/time.Duration(n) {
		part.Period = l.Period * time.Duration(n)
	}
	return part
}

// String writes the limit as ParseLimit reads it.
func (l Limit) String() string {
	s := strconv.FormatInt(l.Count, 10) + "/" + periodName(l.Period)
	if l.Burst != l.Count {
		s += " burst " + strconv.FormatInt(l.Burst, 10)
	}
	return s
}

// periodName writes a period in its largest whole unit: 1m, 90s, 1d.
func periodName(d time.Duration) string {
	for _, u := range []struct {
		size time.Duration
		name string
	}{
		{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"},
	} {
		if d >= u.size && d%u.size == 0 {
			return strconv.FormatInt(int64(d/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}
