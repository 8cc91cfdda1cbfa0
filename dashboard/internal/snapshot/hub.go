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
	// ClientLimit is how many of them may be clients, and PerClient how many the same one.
	ClientLimit, PerClient int
	// Interval is the time between two events.
	Interval time.Duration
	// Begin is called before the first of a series of events.
	Begin func()
	// Make makes an event, nil if it cannot.
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
	client string
	events chan []byte
}

// Watch returns a stream, which the caller closes, or false if too many watch already. The
// operator, whom the limits for clients do not concern, is the client "".
func (h *Hub) Watch(client string) (*Stream, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.room(client) {
		return nil, false
	}
	s := &Stream{hub: h, client: client, events: make(chan []byte, 1)}
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

// room reports whether a client may watch. The caller holds mu.
func (h *Hub) room(client string) bool {
	clients, same := 0, 0
	for s := range h.streams {
		if s.client != "" {
			clients++
		}
		if s.client == client {
			same++
		}
	}
	return len(h.streams) < h.Limit && (client == "" || clients < h.ClientLimit && same < h.PerClient)
}

// Events has the events, and nil where none could be made. It is not closed.
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
	if event != nil {
		h.latest = event
	}
	for s := range h.streams {
		if event != nil {
			select {
			case <-s.events: // it was not read
			default:
			}
		}
		select {
		case s.events <- event:
		default: // nil does not replace an event
		}
	}
	return true
}
