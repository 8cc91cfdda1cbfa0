package collapse

import (
	"sync"
	"time"
)

// maxRemembered bounds the keys of HitForMiss.
const maxRemembered = 1 << 16

// Hash is a hash of 128 bits of a key.
type Hash = [16]byte

// HitForMiss remembers the keys whose responses cannot be shared, so that requests
// for them do not wait for each other. It is bounded: a key that is forgotten costs
// some requests a wait, nothing else, and so does one whose hash is that of another.
// The zero value is ready for use.
type HitForMiss struct {
	mu      sync.Mutex
	expires map[Hash]time.Time
}

// Add remembers a key until then, or until the later time that it has already.
func (h *HitForMiss) Add(hash Hash, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.expires == nil {
		h.expires = map[Hash]time.Time{}
	}
	if len(h.expires) >= maxRemembered {
		h.forgetSome()
	}
	if until.After(h.expires[hash]) {
		h.expires[hash] = until
	}
}

// forgetSome makes room for a key.
func (h *HitForMiss) forgetSome() {
	for other := range h.expires {
		if len(h.expires) < maxRemembered {
			return
		}
		delete(h.expires, other)
	}
}

// Has reports whether the key is remembered.
func (h *HitForMiss) Has(hash Hash, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	until, ok := h.expires[hash]
	if ok && now.After(until) {
		delete(h.expires, hash)
		return false
	}
	return ok
}

// Remove forgets the key.
func (h *HitForMiss) Remove(hash Hash) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.expires, hash)
}
