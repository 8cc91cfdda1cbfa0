// Package stream holds the content of a response while it arrives: one writer
// appends, and any number of readers follow, each at its own pace.
package stream

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ErrAborted ends a stream whose response broke off.
var ErrAborted = errors.New("the response broke off")

// errTooSlow ends a reader that holds up others who read a response that is too
// large to be kept.
var errTooSlow = errors.New("the client is too slow for a response that is not kept")

// MaxDelay is how long a reader of a response that is not kept may have others wait
// for it. As much of that is forgotten as there is time in which it does not, so one
// that reads at half their pace may go on. A reader that is alone is waited for as
// without the cache. It is a variable for tests.
var MaxDelay atomic.Int64

func init() { MaxDelay.Store(int64(10 * time.Second)) }

// window is how much of a response that is not kept is buffered for its readers.
const window = 256 << 10

// Stream is the content of a response. As long as it is not larger than its limit
// all of it is kept; after that only what its readers have not read yet, and the
// writer waits for them.
type Stream struct {
	budget  *Budget
	onIdle  func()        // called when the last reader has gone
	delay   time.Duration // MaxDelay
	limit   int
	charged int64 // bytes of the budget

	mu      sync.Mutex
	content buffer
	over    bool // it is larger than the limit
	ended   bool
	err     error
	more    chan struct{} // closed when there is more to read; nil while nobody waits
	space   chan struct{} // closed when a reader has moved on
	readers map[*Reader]struct{}
	cutOff  bool // one of them was

	// How many readers have had all that has arrived, and since when there are any.
	waiting      int
	waitingSince time.Time
}

// buffer is a part of the content.
type buffer struct {
	data     []byte
	start    int64 // where data begins in the content
	reserved int   // how much of it is charged to the budget beforehand
}

func (b *buffer) end() int64 { return b.start + int64(len(b.data)) }

// New returns a stream for content of the expected length, -1 if that is not
// known, which is kept as far as limit and budget allow. onIdle is called when the
// last reader has gone before the end.
func New(limit, expected int64, budget *Budget, onIdle func()) *Stream {
	s := &Stream{limit: int(limit), delay: time.Duration(MaxDelay.Load()), budget: budget, onIdle: onIdle}
	switch {
	case expected <= 0 || expected > limit:
	case s.charge(expected):
		s.content.data, s.content.reserved = make([]byte, 0, expected), int(expected)
	default:
		s.stopKeeping()
	}
	return s
}

func (s *Stream) charge(n int64) bool {
	if !s.budget.take(n) {
		return false
	}
	s.charged += n
	return true
}

func (s *Stream) discharge() {
	s.budget.give(s.charged)
	s.charged = 0
}

// stopKeeping has the content only pass from now on.
func (s *Stream) stopKeeping() {
	s.over = true
	s.limit = min(s.limit, window)
	s.discharge()
}

// Write appends p. It reports whether all of the content is still kept.
func (s *Stream) Write(p []byte) (kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		n := len(s.content.data) + len(p)
		if n > s.limit || n > s.content.reserved && !s.charge(int64(n-max(s.content.reserved, len(s.content.data)))) {
			s.stopKeeping()
		}
	}
	if s.over {
		s.waitForSpace(len(p))
		if len(s.readers) == 0 {
			s.content.start, s.content.data = s.content.end()+int64(len(p)), nil
			return false
		}
	}
	s.content.data = append(s.content.data, p...)
	s.wakeReaders()
	return !s.over
}

// waitForSpace drops what all readers have read and waits until n bytes more fit.
func (s *Stream) waitForSpace(n int) {
	for {
		slowest := s.content.end()
		for r := range s.readers {
			slowest = min(slowest, r.at)
		}
		if read := int(slowest - s.content.start); read > 0 {
			// A new array: readers may still send from the old one.
			rest := s.content.data[read:]
			s.content.data = append(make([]byte, 0, max(len(rest)+n, s.limit)), rest...)
			s.content.start = slowest
		}
		if len(s.content.data) == 0 || len(s.content.data)+n <= s.limit {
			return
		}
		end := s.content.end()
		s.waitForReaders(min(end, end+int64(n-s.limit)))
	}
}

// waitForReaders waits for those that are before a position, until one of them has
// moved on, and cuts off who has others wait for too long.
func (s *Stream) waitForReaders(position int64) {
	timeout := s.delay
	for r := range s.readers {
		if r.behind = r.at < position; r.behind {
			timeout = min(timeout, s.delay-r.delayed)
		}
	}
	from := time.Now()
	s.waitForReader(timeout)
	to := time.Now()
	switch {
	case s.waiting == 0:
		from = to // nobody waits
	case s.waitingSince.After(from):
		from = s.waitingSince
	}
	for r := range s.readers {
		if r.behind && r.delay(from, to) >= s.delay {
			r.cut, s.cutOff = true, true
			delete(s.readers, r)
			s.wakeReaders()
		}
	}
}

// waitForReader unlocks the stream and waits until a reader has moved on, or for some
// time.
func (s *Stream) waitForReader(timeout time.Duration) {
	space := make(chan struct{})
	s.space = space
	s.mu.Unlock()
	defer s.mu.Lock()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-space:
	case <-timer.C:
	}
}

// CutOff reports whether a reader was cut off.
func (s *Stream) CutOff() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cutOff
}

func (s *Stream) wakeReaders() {
	if s.more != nil {
		close(s.more)
		s.more, s.waiting = nil, 0
	}
}

func (s *Stream) wakeWriter() {
	if s.space != nil {
		close(s.space)
		s.space = nil
	}
}

// End ends the stream, with an error if the content is not whole. It returns the
// content if all of it was kept. The first call counts.
func (s *Stream) End(err error) (body []byte, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.err = true, err
		s.discharge()
		s.wakeReaders()
	}
	return s.content.data, !s.over
}

// Follow returns a reader that begins at a byte of the content, nil if that is no
// longer there or the response broke off.
func (s *Stream) Follow(at int64) *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || at < s.content.start || s.over && !s.ended && at < s.content.end() && len(s.readers) == 0 {
		return nil
	}
	r := &Reader{s: s, at: at}
	if s.readers == nil {
		s.readers = map[*Reader]struct{}{}
	}
	s.readers[r] = struct{}{}
	return r
}

// HasReaders reports whether anybody follows.
func (s *Stream) HasReaders() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.readers) > 0
}
