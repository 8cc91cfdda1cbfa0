package redis

import (
	"sync/atomic"
)

type counters struct {
	hits, misses, skipped, errors, late, corrupt     atomic.Int64
	writes, dropped, writeErrors, oversize, removals atomic.Int64
}

// Stats are numbers of the tier since the start, for metrics and the admin API.
type Stats struct {
	// Hits and Misses count the look-ups that Redis answered.
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
	// Skipped counts look-ups left out because Redis was unavailable, its
	// invalidations were not known yet or too many look-ups were under way.
	Skipped int64 `json:"skipped"`
	// Errors and Late count look-ups that failed, and that took longer than the
	// budget.
	Errors int64 `json:"errors"`
	Late   int64 `json:"late"`
	// Corrupt counts values that were damaged, unknown or of another version.
	Corrupt int64 `json:"corrupt"`
	// Writes, WriteErrors and Dropped count what was written, what failed and
	// what was not tried because the queue was full or Redis was unavailable.
	Writes      int64 `json:"writes"`
	WriteErrors int64 `json:"write_errors"`
	Dropped     int64 `json:"dropped"`
	// Oversize counts bodies that were too large to be kept.
	Oversize int64 `json:"oversize"`
	// Deletes counts entries that were deleted.
	Deletes int64 `json:"deletes"`
	// QueuedBytes wait to be written.
	QueuedBytes int64 `json:"queued_bytes"`
	// Away is true while Redis, or a part of it, is unavailable.
	Away bool `json:"away"`
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	return Stats{
		Hits: s.n.hits.Load(), Misses: s.n.misses.Load(), Skipped: s.n.skipped.Load(),
		Errors: s.n.errors.Load(), Late: s.n.late.Load(), Corrupt: s.n.corrupt.Load(),
		Writes: s.n.writes.Load(), WriteErrors: s.n.writeErrors.Load(), Dropped: s.n.dropped.Load(),
		Oversize: s.n.oversize.Load(), Deletes: s.n.removals.Load(),
		QueuedBytes: s.queued.Load(), Away: s.unavailable(),
	}
}
