package memory

// table is an open-addressing hash table from the tag of a key to its TAT. A slot
// whose TAT is not after now is free, so idle keys are simply overwritten. Probing
// ends at the first empty slot.
type table struct {
	slots []slot
	used  int // slots that are not zero, idle ones included
	hand  int // where the next search for an eviction begins
}

// slot is 16 bytes, four to a cache line: 8 for the key and 8 of state.
type slot struct {
	tag uint64 // 0: empty
	tat int64
}

// minSlots is the size of a new table, a power of two as all sizes.
const minSlots = 8

func (s *slot) empty() bool { return s.tag == 0 }

// find returns the slot of a key, or nil.
func (t *table) find(tag uint64) *slot {
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := tag & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.tag == tag {
			return s
		}
		if s.empty() {
			return nil
		}
	}
}

// put stores the TAT of a key that is not in the table, in an idle slot of its
// chain or else in a new one. It reports whether an active key was evicted because
// limit slots are in use.
func (t *table) put(tag uint64, tat, now int64, limit int) (evicted bool) {
	if len(t.slots) == 0 {
		t.slots = make([]slot, minSlots)
	}
	for {
		mask := uint64(len(t.slots) - 1)
		for i := tag & mask; ; i = (i + 1) & mask {
			s := &t.slots[i]
			if s.empty() {
				if t.used >= limit || (t.used+1)*4 > len(t.slots)*3 {
					break
				}
				t.used++
			} else if s.tat > now {
				continue
			}
			*s = slot{tag, tat}
			return evicted
		}
		// The chain is full: at the limit evict one key, else drop all idle ones and
		// grow.
		if t.used >= limit {
			evicted = t.evict(now) || evicted
		} else {
			t.rebuild(now)
		}
	}
}

// rebuild moves the active slots to a table of a fitting size.
func (t *table) rebuild(now int64) {
	live := t.live(now)
	size := minSlots
	// At most 3/4 full, with room for at least a quarter more before the next
	// rebuild, to amortize its cost.
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
		i := s.tag & mask
		for !t.slots[i].empty() {
			i = (i + 1) & mask
		}
		t.slots[i] = s
		t.used++
	}
}

const (
	// sample is how many active slots are candidates for eviction.
	sample = 8

	// search is how many slots are searched for an idle one.
	search = 256
)

// evict removes an idle key if there is one nearby, and else the one of a sample
// that is nearest to being idle. It reports whether the key was active.
func (t *table) evict(now int64) bool {
	victim, live := -1, true
	for seen, steps := 0, 0; steps < len(t.slots) && (steps < search || victim < 0); steps++ {
		if t.hand++; t.hand >= len(t.slots) {
			t.hand = 0
		}
		s := &t.slots[t.hand]
		if s.empty() {
			continue
		}
		if s.tat <= now {
			victim, live = t.hand, false
			break
		}
		if seen++; seen <= sample && (victim < 0 || s.tat < t.slots[victim].tat) {
			victim = t.hand
		}
	}
	if victim < 0 {
		return false
	}
	t.remove(victim)
	return live
}

// remove empties a slot and shifts back the ones behind it, so that probing finds
// them.
func (t *table) remove(gap int) {
	mask := len(t.slots) - 1
	for i := (gap + 1) & mask; !t.slots[i].empty(); i = (i + 1) & mask {
		home := int(t.slots[i].tag) & mask
		if (i-home)&mask >= (i-gap)&mask {
			t.slots[gap] = t.slots[i]
			gap = i
		}
	}
	t.slots[gap] = slot{}
	t.used--
}

// live counts the active slots.
func (t *table) live(now int64) (n int) {
	for i := range t.slots {
		if t.slots[i].tat > now && !t.slots[i].empty() {
			n++
		}
	}
	return n
}
