package keyset

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Source gives the current keys of a provider.
type Source interface {
	// Keys returns the current set, or nil while there is none yet.
	Keys() *Set

	// Refresh is called for a token whose key is unknown. It returns the set
	// after a fetch, if one was due, and never waits longer than a bounded time.
	Refresh(ctx context.Context) *Set

	// Current is Keys that reads and fetches nothing.
	Current() *Set
}

// recheck is how often files are read again.
const recheck = 5 * time.Second

// Reloading is a source that is rebuilt when its input changes. Use triggers the
// check, so it has no goroutine and need not be closed.
type Reloading struct {
	load func() (fingerprint []byte, set *Set, err error)
	fail func(error)

	set     atomic.Pointer[Set]
	next    atomic.Int64 // Unix nanoseconds of the next check
	mu      sync.Mutex
	current []byte // guarded by mu
}

// NewReloading builds a source. load returns a fingerprint of the input, and the
// set, which may be nil if the fingerprint is unchanged. Its first error is
// returned; later ones go to fail, and the last good set stays.
func NewReloading(load func() ([]byte, *Set, error), fail func(error)) (*Reloading, error) {
	r := &Reloading{load: load, fail: fail}
	fingerprint, set, err := load()
	if err != nil {
		return nil, err
	}
	r.current = fingerprint
	r.set.Store(set)
	r.next.Store(time.Now().Add(recheck).UnixNano())
	return r, nil
}

// Keys returns the current set.
func (r *Reloading) Keys() *Set {
	now := time.Now().UnixNano()
	if due := r.next.Load(); now >= due && r.next.CompareAndSwap(due, now+int64(recheck)) {
		r.reload()
	}
	return r.set.Load()
}

// Refresh checks at once, unless that was done within the last second.
func (r *Reloading) Refresh(context.Context) *Set {
	now := time.Now().UnixNano()
	if due := r.next.Load(); due-now < int64(recheck-time.Second) && r.next.CompareAndSwap(due, now+int64(recheck)) {
		r.reload()
	}
	return r.set.Load()
}

// Current returns the set that was read last.
func (r *Reloading) Current() *Set { return r.set.Load() }

// Due makes the next use check.
func (r *Reloading) Due() { r.next.Store(0) }

func (r *Reloading) reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fingerprint, set, err := r.load()
	if err != nil {
		r.fail(err)
		return
	}
	if bytes.Equal(fingerprint, r.current) {
		return
	}
	r.current = fingerprint
	r.set.Store(set)
}

// File returns a source of a JWKS file, which may hold secrets. observe gets the
// reasons why keys of new content are skipped, and fail what is wrong with it.
func File(path string, accepted []string, observe func(skipped []error), fail func(error)) (Source, error) {
	var current []byte
	return NewReloading(func() ([]byte, *Set, error) {
		data, err := os.ReadFile(path)
		if err != nil || current != nil && bytes.Equal(data, current) {
			return data, nil, err
		}
		set, skipped, err := ParseJWKS(data, accepted, true)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		current = data
		if len(skipped) > 0 {
			observe(skipped)
		}
		return data, set, nil
	}, fail)
}
