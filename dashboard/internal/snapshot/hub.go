package snapshot

import (
	"context"
	"sync"
	"time"
)

// Hub makes events while somebody watches, and passes each to all who do.
type Hub struct {
	// Limit is how many may watch at once.
	Limit int
	// Interval is the time between two events.
	Interval time.Duration
	// Begin is called before the first of a series of events.
	Begin func()
	// Make makes an event.
	Make func(now time.Time) []byte

	mu      sync.Mutex
	streams map[*Stream]bool   // guarded by mu
	cancel  context.CancelFunc // ends the series of events; guarded by mu
	latest  []byte             // event of the series; guarded by mu
}

// Stream passes events to one who watches. It keeps the latest event only: who is slow misses
// some.
type Stream struct {
	hub    *Hub
	events chan []byte
}

// Watch returns a stream, which the caller closes, or false if too many watch already.
func (h *Hub) Watch() (*Stream, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.streams) >= h.Limit {
		return nil, false
	}
	s := &Stream{hub: h, events: make(chan []byte, 1)}
	if h.streams == nil {
		h.streams = map[*Stream]bool{}
	}
	h.streams[s] = true
	if h.latest != nil {
		s.events <- h.latest
	}
	if h.cancel == nil {
		var ctx context.Context
		ctx, h.cancel = context.WithCancel(context.Background())
		h.Begin()
		go h.run(ctx)
	}
	return s, true
}

// Events has the events. It is not closed.
func (s *Stream) Events() <-chan []byte { return s.events }

// Close ends the stream. When nobody watches any more, no events are made.
func (s *Stream) Close() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, s)
	if len(h.streams) == 0 && h.cancel != nil {
		h.cancel()
		h.cancel, h.latest = nil, nil
	}
}

func (h *Hub) run(ctx context.Context) {
	tick := time.NewTicker(h.Interval)
	defer tick.Stop()
	for {
		event := h.Make(time.Now())
		if !h.pass(ctx, event) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pass gives an event to all streams. It reports whether the series goes on.
func (h *Hub) pass(ctx context.Context, event []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	h.latest = event
	for s := range h.streams {
		select {
		case <-s.events: // it was not read
		default:
		}
		s.events <- event
	}
	return true
}
