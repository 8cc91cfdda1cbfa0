package store

import (
	"context"
	"time"

	"github.com/caddyserver/certmagic"
)

// View is the store as one configuration uses it.
type View struct {
	s *Store
	// waiting is the context whose operations wait while Redis is unreachable.
	waiting context.Context
}

// View returns the store with certmagic's methods. While Redis is
// unreachable, operations with exactly the context waiting go on until that ends; all
// others fail soon.
//
// That is for the context of Caddy's configuration, with which Caddy has
// certmagic begin to manage certificates. certmagic tries that once: if it fails, a
// gateway that starts before its Redis would never load its certificates.
// Handshakes and the periodic maintenance have other contexts.
func (s *Store) View(waiting context.Context) *View { return &View{s, waiting} }

func (v *View) waits(ctx context.Context) bool { return v.waiting != nil && ctx == v.waiting }

// Store writes a value. One that a lock of this process protects, such as a
// certificate that was just issued, is tried for a minute while Redis is unreachable.
func (v *View) Store(ctx context.Context, key string, value []byte) error {
	return v.s.store(ctx, v.waits(ctx), key, value)
}

// Load reads a value. The error is fs.ErrNotExist if there is none.
func (v *View) Load(ctx context.Context, key string) ([]byte, error) {
	f, err := v.s.load(ctx, v.waits(ctx), "load", key)
	return f.value, err
}

// Delete deletes the key and all keys below it. There may be none.
func (v *View) Delete(ctx context.Context, key string) error {
	return v.s.remove(ctx, v.waits(ctx), key)
}

// Exists reports whether the key has a value or others below it.
func (v *View) Exists(ctx context.Context, key string) bool {
	there, err := v.s.exists(ctx, v.waits(ctx), key)
	return err == nil && there
}

// List returns the keys below a key in lexical order: those of the next level, or
// with recursive all, directories included. An empty key is the root.
func (v *View) List(ctx context.Context, key string, recursive bool) ([]string, error) {
	return v.s.list(ctx, v.waits(ctx), key, recursive)
}

// Stat describes a key. A directory has no size or time.
func (v *View) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	return v.s.stat(ctx, v.waits(ctx), key)
}

// Lock takes a lock, and waits until it is free.
func (v *View) Lock(ctx context.Context, name string) error {
	_, err := v.s.lock(ctx, v.waits(ctx), true, name)
	return err
}

// TryLock takes a lock if it is free.
func (v *View) TryLock(ctx context.Context, name string) (bool, error) {
	return v.s.lock(ctx, v.waits(ctx), false, name)
}

// RenewLockLease confirms that a lock is held, and takes one that was lost again if
// it is free. The lease stays short, whatever is asked for: it is renewed as long
// as this process lives.
func (v *View) RenewLockLease(ctx context.Context, name string, _ time.Duration) error {
	return v.s.renewLease(ctx, v.waits(ctx), name)
}

// Unlock gives a lock up.
func (v *View) Unlock(ctx context.Context, name string) error {
	return v.s.unlock(ctx, name)
}

// String names the storage in logs.
func (v *View) String() string { return v.s.String() }

// Interface guards
var (
	_ certmagic.Storage          = (*View)(nil)
	_ certmagic.TryLocker        = (*View)(nil)
	_ certmagic.LockLeaseRenewer = (*View)(nil)
)
