package circuit

import "time"

// buckets is how finely the window rolls: a result leaves it at most a tenth
// of its length late.
const buckets = 10

// window counts results of the last while in a ring of buckets.
type window struct {
	width int64 // of a bucket, in nanoseconds
	ring  [buckets + 1]bucket
	last  int64 // number of the newest bucket
}

type bucket struct{ total, failures, slow int }

const defaultWindow = 10 * time.Second

// resize sets the length. Another length empties the window.
func (w *window) resize(length time.Duration) {
	if length <= 0 {
		length = defaultWindow
	}
	if width := max(int64(length)/buckets, 1); width != w.width {
		*w = window{width: width}
	}
}

// advance empties the buckets that time has passed.
func (w *window) advance(now int64) {
	if w.width == 0 {
		w.resize(0)
	}
	n := now / w.width
	if n <= w.last {
		return // the clock stands, or stepped back
	}
	for i := max(w.last+1, n-buckets); i <= n; i++ {
		w.ring[i%int64(len(w.ring))] = bucket{}
	}
	w.last = n
}

func (w *window) add(now int64, failed, slow bool) {
	w.advance(now)
	b := &w.ring[w.last%int64(len(w.ring))]
	b.total++
	if failed {
		b.failures++
	}
	if slow {
		b.slow++
	}
}

func (w *window) sum(now int64) (total, failures, slow int) {
	w.advance(now)
	for i := range w.ring {
		total += w.ring[i].total
		failures += w.ring[i].failures
		slow += w.ring[i].slow
	}
	return total, failures, slow
}

func (w *window) reset() { *w = window{width: w.width, last: w.last} }
