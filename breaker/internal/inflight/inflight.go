// Package inflight bounds how many requests are under way at once, with a
// short queue in front.
package inflight

import (
	"context"
	"errors"
	"time"
)

// The refusals of a Limiter.
var (
	// ErrFull is returned when no place is free and neither is one in the queue.
	ErrFull = errors.New("too many requests under way, and the queue is full")
	// ErrTimeout is returned when no place became free in time.
	ErrTimeout = errors.New("too many requests under way, and none ended in time")
)

// Settings are the bounds.
type Settings struct {
	// Max is how many requests may be under way. With Adaptive it is the most
	// that the limiter may find right.
	Max int
	// Adaptive finds the limit from the backend's latency, at least Min.
	Adaptive bool
	Min      int
	// Queue is how many more may wait, and QueueWait for how long.
	Queue     int
	QueueWait time.Duration
}

// Limiter hands out places.
type Limiter interface {
	// Acquire takes a place, perhaps after waiting in the queue. The error is
	// ErrFull, ErrTimeout or that of the context.
	Acquire(ctx context.Context) (Place, error)
	// Configure applies other bounds and reports whether this limiter can.
	Configure(s Settings) bool
	// Stats returns the requests under way, those waiting, and the limit.
	Stats() (inFlight, queued, limit int)
}

// Place is held by a request under way.
type Place interface {
	// Header is called when the response header has come: measured says that the
	// time until then was the backend's alone.
	Header(measured bool)
	// Release gives the place back. It may be called more than once.
	Release()
}

// New returns a limiter with the bounds.
func New(s Settings) Limiter {
	if s.Adaptive {
		return newAdaptive(s)
	}
	return newFixed(s)
}
