// Package pool shares values by key, over reloads of the configuration too.
//
// Caddy provisions a new configuration before it cleans the old one up, and calls
// Cleanup also after a Provision that failed. Deleting a key of a caddy.UsagePool
// that this load never acquired would therefore take the value away from the
// configuration that runs. A Ref releases what it stands for, once.
package pool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sync"

	"github.com/caddyserver/caddy/v2"
)

// Pool are values by key. A value lives as long as there is a Ref to it.
type Pool[T any] struct {
	entries *caddy.UsagePool
	destroy func(T) error
}

// New returns an empty pool. destroy, unless it is nil, ends a value when the last
// Ref to it is released.
func New[T any](destroy func(T) error) *Pool[T] {
	return &Pool[T]{entries: caddy.NewUsagePool(), destroy: destroy}
}

// entry is what the pool of Caddy holds.
type entry[T any] struct {
	value   T
	destroy func(T) error
}

func (e *entry[T]) Destruct() error {
	if e.destroy == nil {
		return nil
	}
	return e.destroy(e.value)
}

// Key returns a key for settings, which go into it as JSON. It reveals nothing of them.
func Key(settings ...any) string {
	text, err := json.Marshal(settings)
	if err != nil {
		panic("pool: " + err.Error()) // settings are texts, numbers and the like
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Ref is one use of a value.
type Ref[T any] struct {
	Value T
	// Loaded reports whether the value was there before.
	Loaded bool

	key  string
	pool *Pool[T]
	once sync.Once
}

// Acquire returns the value of the key, which make makes if there is none. The
// caller releases it. make may acquire from other pools, not from this one.
func (p *Pool[T]) Acquire(key string, make func() (T, error)) (*Ref[T], error) {
	val, loaded, err := p.entries.LoadOrNew(key, func() (caddy.Destructor, error) {
		value, err := make()
		if err != nil {
			return nil, err
		}
		return &entry[T]{value, p.destroy}, nil
	})
	if err != nil {
		return nil, err
	}
	return &Ref[T]{Value: val.(*entry[T]).value, Loaded: loaded, key: key, pool: p}, nil
}

// Release ends the use of the value. To release again, or a nil Ref, does nothing.
func (r *Ref[T]) Release() (err error) {
	if r == nil {
		return nil
	}
	r.once.Do(func() { _, err = r.pool.entries.Delete(r.key) })
	return err
}

// Range calls f for each value, in no particular order, until it returns false. f
// must not acquire or release.
func (p *Pool[T]) Range(f func(key string, value T) bool) {
	p.entries.Range(func(key, val any) bool {
		e, ok := val.(*entry[T])
		return !ok || f(key.(string), e.value)
	})
}

// Values returns the values, in no particular order.
func (p *Pool[T]) Values() (values []T) {
	p.Range(func(_ string, value T) bool {
		values = append(values, value)
		return true
	})
	return values
}
