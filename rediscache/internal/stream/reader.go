package stream

import (
	"context"
	"io"
	"time"
)

// Reader follows a stream for one client.
type Reader struct {
	s   *Stream
	at  int64
	cut bool // it was too slow

	behind  bool          // the writer waits for it
	delayed time.Duration // how long others have waited for it lately
	counted time.Time     // until when that was counted
}

// delay counts that others have waited for the reader from a time to another, and
// returns how long they have lately.
func (r *Reader) delay(from, to time.Time) time.Duration {
	r.delayed = max(r.delayed-from.Sub(r.counted), 0) + to.Sub(from)
	r.counted = to
	return r.delayed
}

// Next returns what came since the last call, and waits for it until done is
// closed. The error is io.EOF at the end of a whole response.
func (r *Reader) Next(done <-chan struct{}) ([]byte, error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if r.cut {
			return nil, errTooSlow
		}
		if from := r.at - s.content.start; from < int64(len(s.content.data)) {
			chunk := s.content.data[from:len(s.content.data):len(s.content.data)]
			r.at += int64(len(chunk))
			s.wakeWriter()
			return chunk, nil
		}
		if s.ended {
			if s.err != nil {
				return nil, s.err
			}
			return nil, io.EOF
		}
		if s.more == nil {
			s.more = make(chan struct{})
		}
		if !s.wait(s.more, done) {
			return nil, context.Canceled
		}
	}
}

// wait unlocks the stream and waits until more is closed. It reports false if done was
// before.
func (s *Stream) wait(more chan struct{}, done <-chan struct{}) bool {
	if s.waiting++; s.waiting == 1 {
		s.waitingSince = time.Now()
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		if s.more == more { // otherwise wakeReaders has counted it off
			s.waiting--
		}
	}()
	select {
	case <-more:
		return true
	case <-done:
		return false
	}
}

// CaughtUp reports whether the reader has had all that has arrived.
func (r *Reader) CaughtUp() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.at >= r.s.content.end()
}

// Close ends the reader.
func (r *Reader) Close() {
	s := r.s
	s.mu.Lock()
	delete(s.readers, r)
	s.wakeWriter()
	idle := len(s.readers) == 0 && !s.ended
	s.mu.Unlock()
	if idle && s.onIdle != nil {
		s.onIdle()
	}
}
