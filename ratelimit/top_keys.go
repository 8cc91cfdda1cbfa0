package ratelimit

import (
	"cmp"
	"slices"
	"sync"
)

const (
	// hotKeys is how many keys a zone's sketch follows.
	hotKeys = 64

	// hotSample is how many decisions are counted as one of them, so that the
	// sketch costs busy zones nothing.
	hotSample = 16
)

// hottest finds the keys that take most units with a bounded number of counters
// (the space-saving algorithm: a new key takes the place and the count of the
// smallest, so a count is too high by at most the one it took over).
type hottest struct {
	mu     sync.Mutex
	tick   uint32
	counts []hotKey
	index  map[string]int
}

// hotKey is a key with an estimate of the units it asked for.
type hotKey struct {
	Key   string `json:"key"`
	Units int64  `json:"units"`
	// Error is by how much Units may be too high.
	Error int64 `json:"error"`
}

// add counts units of a key. Only one in hotSample calls is counted, for all.
func (t *hottest) add(key string, units int64) {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	if t.tick++; t.tick%hotSample != 1 && len(t.counts) == hotKeys {
		return
	}
	if len(t.counts) == hotKeys {
		units *= hotSample
	}
	if t.index == nil {
		t.index = make(map[string]int, hotKeys)
	}
	if i, ok := t.index[key]; ok {
		t.counts[i].Units += units
		return
	}
	if len(t.counts) < hotKeys {
		t.index[key] = len(t.counts)
		t.counts = append(t.counts, hotKey{Key: key, Units: units})
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
	*c = hotKey{Key: key, Units: c.Units + units, Error: c.Units}
	t.index[key] = least
}

// list returns the keys, the hottest first.
func (t *hottest) list() []hotKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := slices.Clone(t.counts)
	slices.SortStableFunc(out, func(a, b hotKey) int { return cmp.Compare(b.Units, a.Units) })
	return out
}

// forget removes a key.
func (t *hottest) forget(key string) {
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
