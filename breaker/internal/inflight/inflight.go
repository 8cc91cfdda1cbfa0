// Package inflight limits how many requests are in flight at once, with a short
// queue in front.
package inflight

import (
	"context"
	"errors"
	"time"
)

// The refusals of a Limiter.
var (
	// ErrFull is returned when all places and the queue are taken.
	ErrFull = errors.New("too many requests in flight, and the queue is full")
	// ErrTimeout is returned when no place became free in time.
	ErrTimeout = errors.New("too many requests in flight, and none finished in time")
)

// Settings are the limits.
type Settings struct {
	// Max is how many requests may be in flight, with Adaptive at most.
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
	// Acquire takes a place, possibly after waiting in the queue. The error is
	// ErrFull, ErrTimeout or that of the context.
	Acquire(ctx context.Context) (Place, error)
	// Configure applies other limits and reports whether this limiter can.
	Configure(s Settings) bool
	// Stats returns the requests in flight, those waiting, and the limit.
	Stats() (inFlight, queued, limit int)
}

// Place is held by a request in flight.
type Place interface {
	// Header is called when the response header has come. measured says whether
	// the time until then was the backend's alone.
	Header(measured bool)
	// Release frees the place. It may be called more than once.
	Release()
}

// New returns a limiter.
func New(s Settings) Limiter {
	if s.Adaptive {
		return newAdaptive(s)
	}
	return newFixed(s)
}
