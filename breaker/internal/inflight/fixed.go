package inflight

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// fixed has the limit of the configuration. Its queue is first in, first out.
type fixed struct {
	mu       sync.Mutex
	settings Settings  // guarded by mu
	inFlight int       // guarded by mu
	queue    list.List // of chan struct{}, which is closed to give a place; guarded by mu
}

func newFixed(s Settings) *fixed { return &fixed{settings: s} }

func (l *fixed) Configure(s Settings) bool {
	if s.Adaptive {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settings = s
	l.admit()
	return true
}

func (l *fixed) Stats() (inFlight, queued, limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight, l.queue.Len(), l.settings.Max
}

func (l *fixed) Acquire(ctx context.Context) (Place, error) {
	l.mu.Lock()
	if l.inFlight < l.settings.Max {
		l.inFlight++
		l.mu.Unlock()
		return &fixedPlace{l: l}, nil
	}
	if l.queue.Len() >= l.settings.Queue {
		l.mu.Unlock()
		return nil, ErrFull
	}
	wait := l.settings.QueueWait
	turn := make(chan struct{})
	element := l.queue.PushBack(turn)
	l.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	var err error
	select {
	case <-turn:
		return &fixedPlace{l: l}, nil
	case <-timer.C:
		err = ErrTimeout
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-turn: // granted meanwhile
		return &fixedPlace{l: l}, nil
	default:
		l.queue.Remove(element)
		return nil, err
	}
}

// admit gives free places to waiting requests. l.mu is held.
func (l *fixed) admit() {
	for l.inFlight < l.settings.Max && l.queue.Len() > 0 {
		close(l.queue.Remove(l.queue.Front()).(chan struct{}))
		l.inFlight++
	}
}

func (l *fixed) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.admit()
}

type fixedPlace struct {
	l    *fixed
	once sync.Once
}

func (*fixedPlace) Header(bool) {}

func (p *fixedPlace) Release() { p.once.Do(p.l.release) }
