package stream

import "sync/atomic"

// minBudget is what may arrive at once however small the limit is.
const minBudget = 16 << 20

// Budget bounds the memory that all streams take together which are arriving and
// will be stored. A stream that does not fit is passed on and not kept.
type Budget struct {
	// Limit returns the bound in bytes. At least 16 MiB are allowed.
	Limit func() int64

	used atomic.Int64
}

// Used returns how many bytes are taken.
func (b *Budget) Used() int64 { return b.used.Load() }

// take reports whether n bytes more fit, and takes them. A nil budget has no bound.
func (b *Budget) take(n int64) bool {
	if b == nil {
		return true
	}
	if b.used.Add(n) > max(b.Limit(), minBudget) {
		b.used.Add(-n)
		return false
	}
	return true
}

// give gives n bytes back.
func (b *Budget) give(n int64) {
	if b != nil {
		b.used.Add(-n)
	}
}
