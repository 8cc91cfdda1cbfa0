package rediscache

import (
	"runtime"
	"sync/atomic"
)

// leastRoom is what may arrive at once however small the memory tier is.
const leastRoom = 16 << 20

// room bounds what all responses together take that are arriving and will be
// kept: as much again as the memory tier has. A response for which there is no
// room passes and is not kept.
type room struct {
	used atomic.Int64
	most func() int64
}

// share is one response's part of the room. A nil share has no bound.
type share struct {
	room  *room
	taken *atomic.Int64
}

// share returns a part that is given back when it is dropped, at the latest when
// nobody knows it any more.
func (r *room) share() *share {
	if r == nil {
		return nil
	}
	s := &share{room: r, taken: new(atomic.Int64)}
	taken := s.taken
	runtime.AddCleanup(s, func(r *room) { r.used.Add(-taken.Swap(0)) }, r)
	return s
}

// take reports whether there is room for n bytes more, and takes it.
func (s *share) take(n int64) bool {
	if s == nil {
		return true
	}
	if s.room.used.Add(n) > max(s.room.most(), leastRoom) {
		s.room.used.Add(-n)
		return false
	}
	s.taken.Add(n)
	return true
}

// drop gives everything back.
func (s *share) drop() {
	if s != nil {
		s.room.used.Add(-s.taken.Swap(0))
	}
}
