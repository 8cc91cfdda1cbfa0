package rediscache

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// errAborted ends a stream whose origin broke off.
var errAborted = errors.New("the response broke off")

// errLagging ends a reader that holds up others who read a response that is too
// large to be kept.
var errLagging = errors.New("the client is too slow for a response that is not kept")

// stallTimeout is how long a response that is not kept waits for a client that
// takes nothing, where others could read on. One who reads alone is waited for as
// without the cache.
const stallTimeout = 10 * time.Second

// stream is the content of a response while it arrives. One writer appends,
// many readers follow. As long as it is not larger than limit all of it is
// kept; after that only what the readers have not had yet, and the writer waits
// for them.
type stream struct {
	limit int
	stall time.Duration
	room  *share
	// unread is called when the last reader has gone.
	unread func()

	mu  sync.Mutex
	buf []byte
	// reserved is how much of the content has its room already.
	reserved int

	base    int64 // buf begins at this byte of the content
	over    bool
	ended   bool
	err     error
	wake    chan struct{} // closed when there is more; nil while nobody waits
	space   chan struct{} // closed when readers have moved on
	readers map[*reader]struct{}
}

// reader is a client that follows a stream.
type reader struct {
	s    *stream
	at   int64
	lost bool
}

// newStream returns a stream for content of the expected length, -1 if that is
// not known, which is kept as far as limit and room allow.
func newStream(limit int64, expected int64, room *share) *stream {
	s := &stream{limit: int(limit), stall: stallTimeout, room: room}
	switch {
	case expected <= 0 || expected > limit:
	case room.take(expected):
		s.buf, s.reserved = make([]byte, 0, expected), int(expected)
	default:
		s.full()
	}
	return s
}

// full says that the content will not be kept.
func (s *stream) full() {
	s.over = true
	s.limit = min(s.limit, window)
	s.room.drop()
}

// window is how much of what is not kept waits for those who follow.
const window = 256 << 10

// write appends p. It reports whether all of the content is still kept.
func (s *stream) write(p []byte) (kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		n := len(s.buf) + len(p)
		if n > s.limit || n > s.reserved && !s.room.take(int64(n-max(s.reserved, len(s.buf)))) {
			s.full()
		}
	}
	if s.over {
		s.makeSpace(len(p))
		if len(s.readers) == 0 {
			s.base += int64(len(s.buf) + len(p))
			s.buf = nil
			return false
		}
	}
	s.buf = append(s.buf, p...)
	s.wakeUp()
	return !s.over
}

// makeSpace drops what all readers have had and waits until there is space for
// n bytes more. Who takes nothing for too long while others are ahead is lost.
func (s *stream) makeSpace(n int) {
	for {
		slowest := s.base + int64(len(s.buf))
		for r := range s.readers {
			slowest = min(slowest, r.at)
		}
		if drop := int(slowest - s.base); drop > 0 {
			// A new array: readers may still send from the old one.
			s.buf = append(make([]byte, 0, max(len(s.buf)-drop+n, s.limit)), s.buf[drop:]...)
			s.base = slowest
		}
		if len(s.buf) == 0 || len(s.buf)+n <= s.limit {
			return
		}
		s.space = make(chan struct{})
		space := s.space
		s.mu.Unlock()
		timer := time.NewTimer(s.stall)
		stalled := false
		select {
		case <-space:
		case <-timer.C:
			stalled = true
		}
		timer.Stop()
		s.mu.Lock()
		if stalled && s.heldUp(slowest) {
			for r := range s.readers {
				if r.at == slowest {
					r.lost = true
					delete(s.readers, r)
				}
			}
			s.wakeUp()
		}
	}
}

// heldUp reports whether any reader has had more than the slowest. It is called
// with the lock held.
func (s *stream) heldUp(slowest int64) bool {
	for r := range s.readers {
		if r.at > slowest {
			return true
		}
	}
	return false
}

func (s *stream) wakeUp() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// end ends the stream, with what went wrong if it is not whole. It returns the
// content if all of it was kept.
func (s *stream) end(err error) (body []byte, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.err = true, err
		s.room.drop()
		s.wakeUp()
	}
	return s.buf, !s.over
}

// follow returns a reader at a byte of the content, nil if that is gone.
func (s *stream) follow(at int64) *reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at < s.base || s.over && !s.ended && at < s.base+int64(len(s.buf)) && len(s.readers) == 0 {
		return nil
	}
	r := &reader{s: s, at: at}
	if s.readers == nil {
		s.readers = map[*reader]struct{}{}
	}
	s.readers[r] = struct{}{}
	return r
}

// watched reports whether anybody follows.
func (s *stream) watched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.readers) > 0
}

// next returns what came since the last call, waiting for it. The error is
// io.EOF at the end of a whole response.
func (r *reader) next(done <-chan struct{}) ([]byte, error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if r.lost {
			return nil, errLagging
		}
		if off := r.at - s.base; off < int64(len(s.buf)) {
			chunk := s.buf[off:len(s.buf):len(s.buf)]
			r.at += int64(len(chunk))
			r.moved()
			return chunk, nil
		}
		if s.ended {
			if s.err != nil {
				return nil, s.err
			}
			return nil, io.EOF
		}
		if s.wake == nil {
			s.wake = make(chan struct{})
		}
		wake := s.wake
		s.mu.Unlock()
		select {
		case <-wake:
		case <-done:
			s.mu.Lock()
			return nil, context.Canceled
		}
		s.mu.Lock()
	}
}

// moved tells a writer that waits for space. It is called with the lock held.
func (r *reader) moved() {
	if r.s.space != nil {
		close(r.s.space)
		r.s.space = nil
	}
}

// idle reports whether the reader has had all that there is by now.
func (r *reader) idle() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.at >= r.s.base+int64(len(r.s.buf))
}

// close ends the reader.
func (r *reader) close() {
	r.s.mu.Lock()
	delete(r.s.readers, r)
	r.moved()
	last := len(r.s.readers) == 0 && !r.s.ended
	r.s.mu.Unlock()
	if last && r.s.unread != nil {
		r.s.unread()
	}
}
