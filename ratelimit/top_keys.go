package ratelimit

import (
	"cmp"
	"slices"
	"sync"
)

const (
	// topKeysTracked is how many keys of a zone are tracked.
	topKeysTracked = 64

	// topKeysSample is the sampling rate: one of this many decisions is counted, so
	// that busy zones pay next to nothing.
	topKeysSample = 16
)

// topKeys finds the keys that take most units, with a bounded number of counters
// (the space-saving algorithm: a new key takes the place and the count of the
// smallest, so a count is too high by at most the one it took over).
type topKeys struct {
	mu     sync.Mutex
	calls  uint32
	counts []topKey
	index  map[string]int
}

// topKey is a key with an estimate of the units it asked for.
type topKey struct {
	Key   string `json:"key"`
	Units int64  `json:"units"`
	// Error is by how much Units may be too high.
	Error int64 `json:"error"`
}

// add counts units of a key. Once the table is full, one call in topKeysSample is
// counted, for all of them; calls during another one are not counted.
func (t *topKeys) add(key string, units int64) {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	full := len(t.counts) == topKeysTracked
	if t.calls++; full {
		if t.calls%topKeysSample != 1 {
			return
		}
		units *= topKeysSample
	}
	if t.index == nil {
		t.index = make(map[string]int, topKeysTracked)
	}
	if i, ok := t.index[key]; ok {
		t.counts[i].Units += units
		return
	}
	if !full {
		t.index[key] = len(t.counts)
		t.counts = append(t.counts, topKey{Key: key, Units: units})
		return
	}
	least := 0
	for i := range t.counts {
		if t.counts[i].Units < t.counts[least].Units {
			least = i
		}
	}
	c := &t.counts[least]
	delete(t.index, c.Key)
	*c = topKey{Key: key, Units: c.Units + units, Error: c.Units}
	t.index[key] = least
}

// list returns the keys, those with most units first.
func (t *topKeys) list() []topKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := slices.Clone(t.counts)
	slices.SortStableFunc(out, func(a, b topKey) int { return cmp.Compare(b.Units, a.Units) })
	return out
}

// remove drops a key.
func (t *topKeys) remove(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.index[key]
	if !ok {
		return
	}
	last := len(t.counts) - 1
	t.counts[i] = t.counts[last]
	t.index[t.counts[i].Key] = i
	delete(t.index, key)
	t.counts = t.counts[:last]
}
