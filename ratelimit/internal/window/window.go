// Package window is an exact sliding window: a log of the times at which units
// were taken. It admits at most the limit in any window whatever its position, for
// eight bytes per unit.
package window

import "sort"

// Log has the units taken within one window. The zero value is an empty log.
// Times are nanoseconds on the caller's clock; one that goes back is taken as the
// newest time in the log.
type Log struct {
	ring  []int64
	head  int
	count int
}

// at returns the i-th oldest unit's time.
func (l *Log) at(i int) int64 {
	if i += l.head; i >= len(l.ring) {
		i -= len(l.ring)
	}
	return l.ring[i]
}

// trim removes the units that have left the window that ends at now.
func (l *Log) trim(now, window int64) {
	for l.count > 0 && l.at(0) <= now-window {
		if l.head++; l.head == len(l.ring) {
			l.head = 0
		}
		l.count--
	}
	if l.count == 0 {
		l.head = 0
	}
}

// clock is now, or the newest time in the log if that is later.
func (l *Log) clock(now int64) int64 {
	if l.count > 0 {
		return max(now, l.at(l.count-1))
	}
	return now
}

// Wait returns for how long cost units are not available: 0 when they are, -1
// when they never will be.
func (l *Log) Wait(now, window, limit, cost int64) int64 {
	now = l.clock(now)
	l.trim(now, window)
	if cost > limit {
		return -1
	}
	over := int64(l.count) + cost - limit
	if over <= 0 {
		return 0
	}
	return l.at(int(over-1)) + window - now
}

// Take records cost units at now and returns the recorded time. The caller has
// checked Wait; limit bounds the memory of the log.
func (l *Log) Take(now, limit, cost int64) int64 {
	now = l.clock(now)
	l.grow(l.count+int(cost), int(limit))
	for range cost {
		i := l.head + l.count
		if i >= len(l.ring) {
			i -= len(l.ring)
		}
		l.ring[i] = now
		l.count++
	}
	return now
}

func (l *Log) grow(need, limit int) {
	if need <= len(l.ring) {
		return
	}
	size := max(8, 2*len(l.ring))
	size = max(need, min(size, limit))
	ring := make([]int64, size)
	for i := range l.count {
		ring[i] = l.at(i)
	}
	l.ring, l.head = ring, 0
}

// Refund removes up to cost units that were recorded at the given time, and no
// others: without them the window would admit too many.
func (l *Log) Refund(at, cost int64) {
	first := sort.Search(l.count, func(i int) bool { return l.at(i) >= at })
	n := 0
	for first+n < l.count && int64(n) < cost && l.at(first+n) == at {
		n++
	}
	if n == 0 {
		return
	}
	for i := first + n; i < l.count; i++ {
		to := l.head + i - n
		if to >= len(l.ring) {
			to -= len(l.ring)
		}
		l.ring[to] = l.at(i)
	}
	l.count -= n
}

// Used returns the number of units in the window that ends at now.
func (l *Log) Used(now, window int64) int64 {
	l.trim(l.clock(now), window)
	return int64(l.count)
}

// Reset returns the time until the oldest unit leaves the window, 0 when the
// log is empty.
func (l *Log) Reset(now, window int64) int64 {
	now = l.clock(now)
	l.trim(now, window)
	if l.count == 0 {
		return 0
	}
	return l.at(0) + window - now
}

// Last returns the newest time in the log, and false when it is empty.
func (l *Log) Last() (int64, bool) {
	if l.count == 0 {
		return 0, false
	}
	return l.at(l.count - 1), true
}
