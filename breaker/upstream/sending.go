package upstream

import (
	"context"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/pythopus/tentagate/breaker/internal/direct"
	"github.com/pythopus/tentagate/breaker/internal/exchange"
)

// smallBody is how large a body may be that the buffers of any socket take.
const smallBody = 16 << 10

// bounded makes the round trip. HTTP clients count response_header_timeout from the end
// of the request, to which an upstream that hangs and reads nothing never lets them come.
func (a *attempt) bounded(r *http.Request) (*http.Response, error) {
	limit := time.Duration(a.t.ResponseHeaderTimeout)
	if limit <= 0 || !exchange.HasBody(r) || a.t.direct != nil && 0 < r.ContentLength && r.ContentLength <= smallBody {
		return a.t.send(r)
	}
	ctx, cancel := context.WithCancel(r.Context())
	body := &sending{ReadCloser: r.Body, limit: limit, left: r.ContentLength, cancel: cancel}
	own := r.WithContext(ctx)
	own.Body = body
	resp, err := a.t.send(own)
	if late := body.end(); !late {
		return resp, err
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	return nil, &direct.Error{Op: "sending the request body", Err: os.ErrDeadlineExceeded}
}

// sending is a request body. It cancels a round trip whose upstream has taken nothing of
// it for the limit. The time spent waiting for the client does not count.
type sending struct {
	io.ReadCloser
	limit  time.Duration
	left   int64 // of the body, if its length is known
	cancel context.CancelFunc

	mu    sync.Mutex
	timer *time.Timer // nil before the first read
	over  bool        // the upstream has answered, or was late
	late  bool
}

// Read reads what is to be sent next: what was read before has been taken.
func (s *sending) Read(p []byte) (int, error) {
	s.stop()
	n, err := s.ReadCloser.Read(p)
	limit := s.limit
	if s.left -= int64(n); err != nil || s.left == 0 {
		limit *= 2 // the last piece may take as long, and then the answer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
	case s.timer == nil:
		s.timer = time.AfterFunc(limit, s.expire)
	default:
		s.timer.Reset(limit)
	}
	return n, err
}

func (s *sending) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}

func (s *sending) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.over, s.late = true, true
		s.cancel()
	}
}

// end is called when the round trip has ended. It reports whether the upstream was late.
func (s *sending) end() (late bool) {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.late
}
