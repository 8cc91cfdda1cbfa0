package circuit

import "time"

// buckets is how finely the window rolls: a result leaves it at most a tenth
// of its length late.
const buckets = 10

const defaultWindow = 10 * time.Second

// window counts recent results in a ring of buckets, and keeps their sum.
type window struct {
	width int64 // of a bucket, in nanoseconds
	ring  [buckets + 1]counts
	all   counts
	last  int64 // number of the newest bucket
}

type counts struct{ total, failures, slow int }

// resize sets the length. Another length empties the window.
func (w *window) resize(length time.Duration) {
	if length <= 0 {
		length = defaultWindow
	}
	if width := max(int64(length)/buckets, 1); width != w.width {
		*w = window{width: width}
	}
}

// advance removes the buckets that have left the window.
func (w *window) advance(now int64) {
	n := now / w.width
	if n <= w.last {
		return
	}
	for i := max(w.last+1, n-buckets); i <= n; i++ {
		b := &w.ring[i%int64(len(w.ring))]
		w.all.total -= b.total
		w.all.failures -= b.failures
		w.all.slow -= b.slow
		*b = counts{}
	}
	w.last = n
}

func (w *window) add(now int64, failed, slow bool) {
	w.advance(now)
	b := &w.ring[w.last%int64(len(w.ring))]
	b.total++
	w.all.total++
	if failed {
		b.failures++
		w.all.failures++
	}
	if slow {
		b.slow++
		w.all.slow++
	}
}

func (w *window) sum(now int64) counts {
	w.advance(now)
	return w.all
}

func (w *window) reset() { *w = window{width: w.width, last: w.last} }
