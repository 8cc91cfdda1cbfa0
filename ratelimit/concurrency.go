package ratelimit

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// errQueueFull is returned when as many requests are delayed as may be.
var errQueueFull = errors.New("the delay queue is full")

// wait delays an admitted request until it is within its limits, or the client
// is gone.
func (c *check) wait(ctx context.Context) error {
	queue := c.handler.delayed
	select {
	case queue <- struct{}{}:
	default:
		return errQueueFull
	}
	defer func() { <-queue }()
	// Handlers in front of this one may have delayed the request since the decision.
	timer := time.NewTimer(time.Duration(c.decision.Delay) - time.Since(c.decided))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// delayDuration reads the longest delay of a request; `off` and zero are none.
func delayDuration(s string) (caddy.Duration, bool) {
	if s == "off" || s == "0" {
		return 0, true
	}
	d, err := caddy.ParseDuration(s)
	return caddy.Duration(d), err == nil && d >= 0 && d <= time.Minute
}

// concurrencyShards is the number of locks among which the keys of a zone are
// divided.
const concurrencyShards = 16

var concurrencySeed = maphash.MakeSeed()

// concurrency counts the requests in progress per key. Keys without any need no
// memory.
type concurrency struct {
	shards [concurrencyShards]struct {
		mu   sync.Mutex
		keys map[string]int
	}
}

// acquire takes one of the n slots of a key, if one is free.
func (c *concurrency) acquire(key string, n int) bool {
	s := &c.shards[maphash.String(concurrencySeed, key)%concurrencyShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key] >= n {
		return false
	}
	if s.keys == nil {
		s.keys = make(map[string]int)
	}
	s.keys[key]++
	return true
}

// release frees a slot of a key.
func (c *concurrency) release(key string) {
	s := &c.shards[maphash.String(concurrencySeed, key)%concurrencyShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key]--; s.keys[key] == 0 {
		delete(s.keys, key)
	}
}

// count returns how many slots of a key are taken.
func (c *concurrency) count(key string) int {
	s := &c.shards[maphash.String(concurrencySeed, key)%concurrencyShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[key]
}

// maxConcurrent is this gateway's part of max_concurrent, rounded up.
func (h *Handler) maxConcurrent() int {
	n := h.instances()
	return max(1, (h.MaxConcurrent+n-1)/n)
}
