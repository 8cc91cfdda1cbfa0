package rediscache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pythopus/tentagate/rediscache/internal/stream"
)

// maxAbandoned is how many requests to origins go on at a time whose responses nobody
// read when their clients left. Beyond that they end with their clients: otherwise one
// client could have any number of them by leaving again and again.
const maxAbandoned = 100

var abandoned atomic.Int64

// lifetime bounds a request to the origin. It goes on when its client has left, as long
// as others read the response or it will be stored; but not for longer than fill_timeout
// while nobody reads.
type lifetime struct {
	f      *fetch
	cancel context.CancelFunc // nil: the request ends with its client
	stop   func() bool        // no longer watches the client

	left atomic.Bool // there was a client, and it has left

	mu        sync.Mutex
	unclaimed bool // the client has left, or there never was one
	evaluated bool // it is known whether the response is wanted without its client
	wanted    bool
	timer     *time.Timer
	counted   bool // among those that are abandoned
	closed    bool // it has ended, or was ended: nothing is left to decide
}

// begin returns the context of the request to the origin.
func (l *lifetime) begin(client context.Context) (ctx context.Context) {
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(client))
	ended := l.clientLeft
	if l.f.x.background {
		ended = l.shutDown
		l.unclaim()
	}
	l.stop = context.AfterFunc(client, ended)
	return ctx
}

// clientLeft is called when the client's request has ended.
func (l *lifetime) clientLeft() {
	l.left.Store(true)
	l.unclaim()
}

// shutDown is called when the configuration of a refresh in the background ends.
func (l *lifetime) shutDown() { l.setWanted(false) }

// unclaim notes that there is no client, or no longer.
func (l *lifetime) unclaim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unclaimed = true
	l.reconsider()
}

// setWanted notes whether the response is wanted without its client.
func (l *lifetime) setWanted(wanted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted, l.evaluated = wanted, true
	if l.unclaimed {
		l.reconsider()
	}
}

// unread is called when nobody reads the response any more.
func (l *lifetime) unread() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unclaimed {
		l.reconsider()
	}
}

// isRead reports whether anybody reads. It is called with the lock held: content is
// set before evaluated.
func (l *lifetime) isRead() bool {
	return l.evaluated && l.f.recorder.content != nil && l.f.recorder.content.HasReaders()
}

// setContent gives the recorder the content, which isRead looks at.
func (l *lifetime) setContent(content *stream.Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f.recorder.content = content
}

// reconsider ends the request to the origin if nobody wants the response, or in a
// while if nobody reads it. It is called with the lock held.
func (l *lifetime) reconsider() {
	limit := time.Duration(l.f.x.h.FillTimeout)
	if limit == 0 && l.f.x.background {
		limit = defaultFillTimeout
	}
	switch {
	case l.cancel == nil, l.closed, l.isRead():
	case limit == 0, l.evaluated && !l.wanted, !l.evaluated && l.f.call == nil, l.timer == nil && !l.mayGoOn():
		l.closed = true
		l.cancel()
	case l.timer == nil:
		l.timer = time.AfterFunc(limit, l.expire)
	default:
		l.timer.Reset(limit)
	}
}

// mayGoOn reports whether the request may go on without a client.
func (l *lifetime) mayGoOn() bool {
	if l.f.x.background {
		return true // it never had one
	}
	l.counted = abandoned.Add(1) <= maxAbandoned
	if !l.counted {
		abandoned.Add(-1)
	}
	return l.counted
}

// expire ends the request to the origin unless the response has a reader by now. When
// the last reader leaves, reconsider is called again.
func (l *lifetime) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isRead() {
		l.cancel()
	}
}

// close ends the context, and stops watching the client.
func (l *lifetime) close() {
	if l.stop != nil {
		l.stop()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true // clientLeft may still wait for the lock
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.counted {
		l.counted = false
		abandoned.Add(-1)
	}
	if l.cancel != nil {
		l.cancel()
	}
}
