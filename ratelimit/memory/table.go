package memory

// table is an open-addressing hash table from the 128-bit hash of a key to a
// TAT, made for this purpose: a slot whose TAT is not after now is as good as
// free, so idle keys are evicted by nothing more than being overwritten.
//
// Slots are never emptied one by one; only a rebuild does that. Probing
// therefore ends at the first slot that was never used.
type table struct {
	slots []slot
	used  int // slots that are not zero, idle ones included
	hand  int // where the next search for a victim begins
}

// slot is 24 bytes: 16 that stand for the key, 8 of state.
type slot struct {
	hi, lo uint64
	tat    int64
}

// minSlots is the size of a new table. A power of two, as all sizes.
const minSlots = 8

func (s *slot) empty() bool { return s.hi == 0 && s.lo == 0 }

// find returns the slot of a key, or nil.
func (t *table) find(hi, lo uint64) *slot {
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := lo & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.lo == lo && s.hi == hi {
			return s
		}
		if s.empty() {
			return nil
		}
	}
}

// put stores the TAT of a key that find did not find, in an idle slot of its
// chain or else in a new one. It reports whether a live key had to give way
// because limit slots are live already.
func (t *table) put(hi, lo uint64, tat, now int64, limit int) (evicted bool) {
	if len(t.slots) == 0 {
		t.slots = make([]slot, minSlots)
	}
	for {
		mask := uint64(len(t.slots) - 1)
		for i := lo & mask; ; i = (i + 1) & mask {
			s := &t.slots[i]
			if s.empty() {
				if t.used >= limit || (t.used+1)*4 > len(t.slots)*3 {
					break
				}
				t.used++
			} else if s.tat > now {
				continue
			}
			*s = slot{hi, lo, tat}
			return evicted
		}
		// The chain has no room. Make some: by dropping the idle slots, by growing,
		// or where the limit is reached with live keys, at the cost of one of them.
		if t.rebuild(now, limit) {
			continue
		}
		t.evict(now)
		evicted = true
	}
}

// rebuild moves the live slots to a table of fitting size. It returns false
// when that would make no room.
func (t *table) rebuild(now int64, limit int) bool {
	live := 0
	for i := range t.slots {
		if t.slots[i].tat > now && !t.slots[i].empty() {
			live++
		}
	}
	if live >= limit {
		return false
	}
	size := minSlots
	// At most 3/4 full, and with room to put at least a quarter more before the
	// next rebuild, so that its cost is spread.
	for size*3 < (live+live/4+1)*4 {
		size *= 2
	}
	old := t.slots
	t.slots, t.used, t.hand = make([]slot, size), 0, 0
	mask := uint64(size - 1)
	for _, s := range old {
		if s.tat <= now || s.empty() {
			continue
		}
		i := s.lo & mask
		for !t.slots[i].empty() {
			i = (i + 1) & mask
		}
		t.slots[i] = s
		t.used++
	}
	return true
}

// sample is how many live slots compete for staying.
const sample = 8

// evict forgets the one key of a sample that is nearest to being idle: the one
// that loses least.
func (t *table) evict(now int64) {
	victim := -1
	for seen, steps := 0, 0; seen < sample && steps < len(t.slots); steps++ {
		if t.hand++; t.hand >= len(t.slots) {
			t.hand = 0
		}
		s := &t.slots[t.hand]
		if s.empty() || s.tat <= now {
			continue
		}
		seen++
		if victim < 0 || s.tat < t.slots[victim].tat {
			victim = t.hand
		}
	}
	if victim < 0 {
		return
	}
	// Backward shift, so that probing still finds the keys behind it.
	mask := len(t.slots) - 1
	gap := victim
	for i := (gap + 1) & mask; !t.slots[i].empty(); i = (i + 1) & mask {
		home := int(t.slots[i].lo) & mask
		if (i-home)&mask >= (i-gap)&mask {
			t.slots[gap] = t.slots[i]
			gap = i
		}
	}
	t.slots[gap] = slot{}
	t.used--
}

// live counts the slots in use.
func (t *table) live(now int64) (n int) {
	for i := range t.slots {
		if t.slots[i].tat > now && !t.slots[i].empty() {
			n++
		}
	}
	return n
}
