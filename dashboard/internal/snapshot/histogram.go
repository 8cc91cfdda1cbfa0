package snapshot

import "slices"

// add adds the observations of a histogram with the same buckets. Others are ignored.
func (h *histogram) add(other *histogram) {
	if h.bounds == nil {
		h.bounds, h.counts = other.bounds, make([]float64, len(other.counts))
	}
	if !slices.Equal(h.bounds, other.bounds) {
		return
	}
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// since returns the observations that are not in before. Where counts are smaller than they
// were, all are: the series began anew.
func (h *histogram) since(before *histogram) *histogram {
	if before == nil || before.total > h.total || !slices.Equal(h.bounds, before.bounds) {
		return h
	}
	d := &histogram{bounds: h.bounds, counts: make([]float64, len(h.counts)), total: h.total - before.total}
	for i, n := range h.counts {
		if d.counts[i] = n - before.counts[i]; d.counts[i] < 0 {
			return h
		}
	}
	return d
}

// quantile estimates a quantile as histogram_quantile of Prometheus does: by linear
// interpolation in the bucket that has it. What is above the last bound is that bound. ok is
// false without observations.
func (h *histogram) quantile(q float64) (value float64, ok bool) {
	if h == nil || h.total <= 0 || len(h.bounds) == 0 {
		return 0, false
	}
	rank := q * h.total
	for i, n := range h.counts {
		if n < rank {
			continue
		}
		lower, below := 0.0, 0.0
		if i > 0 {
			lower, below = h.bounds[i-1], h.counts[i-1]
		}
		if n == below {
			return h.bounds[i], true
		}
		return lower + (h.bounds[i]-lower)*(rank-below)/(n-below), true
	}
	return h.bounds[len(h.bounds)-1], true
}
