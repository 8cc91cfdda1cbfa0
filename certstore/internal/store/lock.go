package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Waiting for a lock that another holds, a try is made after waitLeast to
// waitMost.
const (
	waitLeast = 100 * time.Millisecond
	waitMost  = time.Second
)

// held is a lock of this process, from Lock to Unlock, also if it was lost
// meanwhile: who waits for it in this process waits for Unlock, since that names
// no holder.
type held struct {
	name string

	mu    sync.Mutex
	token string
	fence int64
	lost  bool

	// stop is set when the lock was taken. The store's mutex guards it and release.
	stop    context.CancelFunc
	release func()
	done    chan struct{}
}

// ticket returns what a script proves the lock with.
func (h *held) ticket() (token string, fence int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.token, h.fence
}

// lose notes that another has the lock, and reports whether that was not known.
func (h *held) lose() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := !h.lost
	h.lost = true
	return changed
}

// regain notes that the lock is held.
func (h *held) regain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = false
}

// lock takes a lock. It waits while another has it, or with wait false not.
func (s *Store) lock(ctx context.Context, waits, wait bool, name string) (bool, error) {
	if err := checkLock(name); err != nil {
		return false, err
	}
	for {
		left, err := s.tryLock(ctx, waits, name)
		if err != nil || left == 0 || !wait {
			return err == nil && left == 0, err
		}
		if !sleep(ctx, min(jitter(waitLeast, waitMost-waitLeast), max(left, waitLeast))) {
			return false, ctx.Err()
		}
	}
}

// checkLock reports what is wrong with the name of a lock.
func checkLock(name string) error {
	if name == "" || len(name) > maxKey {
		return fmt.Errorf("the name of a lock must have 1 to %d bytes, and has %d", maxKey, len(name))
	}
	return nil
}

// tryLock takes a lock, or returns for how long another has it.
func (s *Store) tryLock(ctx context.Context, waits bool, name string) (left time.Duration, err error) {
	h := &held{name: name, token: rand.Text(), done: make(chan struct{})}
	if !s.reserve(h) {
		return waitMost, nil
	}
	err = s.do(ctx, waits, "lock", func(ctx context.Context) error {
		left, err = s.acquire(ctx, h)
		return err
	})
	if err != nil {
		// The lock may have been taken all the same.
		s.tasks.Go(func() { _ = s.giveUp(h.name, h.token) })
	}
	if err != nil || left > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.held, name)
		return left, err
	}
	s.keep(h)
	return 0, nil
}

// reserve makes h the lock of this process, if there is none of that name.
func (s *Store) reserve(h *held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[h.name] != nil {
		return false
	}
	s.held[h.name] = h
	return true
}

// acquire takes a lock in Redis, or returns for how long another has it.
func (s *Store) acquire(ctx context.Context, h *held) (left time.Duration, err error) {
	token, _ := h.ticket()
	keys := append([]string{"fence"}, s.names(kindLock, h.name)...)
	reply, err := s.run(ctx, lockScript, keys, token, s.o.Lease.Milliseconds()).Slice()
	if err != nil {
		return 0, err
	}
	text, ok := reply[0].(string)
	milliseconds, ok2 := reply[1].(int64)
	if !ok || !ok2 {
		return 0, errReply
	}
	if text == "" {
		return max(time.Duration(milliseconds)*time.Millisecond, time.Millisecond), nil
	}
	fence, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, errReply
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fence, h.lost = fence, false
	return 0, nil
}

// keep renews the lease of a lock until it is given up.
func (s *Store) keep(h *held) {
	release := func() {}
	if h.name != rotationLock { // that one ends with the store
		release = s.o.Retain()
	}
	ctx, stop := context.WithCancel(s.ctx)
	s.mu.Lock()
	h.release, h.stop = release, stop
	s.mu.Unlock()
	s.tasks.Go(func() {
		defer close(h.done)
		for sleep(ctx, s.o.Lease/3) {
			s.renew(ctx, h)
		}
	})
}

// renew renews a lease. While Redis does not answer, the lock is kept: the scripts
// find out whether another has taken it.
func (s *Store) renew(ctx context.Context, h *held) {
	h.mu.Lock()
	lost := h.lost
	h.mu.Unlock()
	if lost {
		return
	}
	_ = s.confirm(ctx, false, h)
}

// confirm renews a lease now. The error is ErrFenced if another has the lock.
func (s *Store) confirm(ctx context.Context, waits bool, h *held) error {
	token, _ := h.ticket()
	return s.fenced(h, "", s.do(ctx, waits, "renew_lock", func(ctx context.Context) error {
		ours, err := s.run(ctx, renewScript, s.names(kindLock, h.name), token, s.o.Lease.Milliseconds()).Bool()
		if err == nil && !ours {
			err = ErrFenced
		}
		return err
	}))
}

// heldAs returns the lock that this process has under a name, or nil.
func (s *Store) heldAs(name string) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.held[name]; h != nil && h.stop != nil {
		return h
	}
	return nil
}

// renewLease takes a lock again, for the work that follows, with a new fence: the
// lease may have ended and others may have held the lock meanwhile. certmagic calls
// this before it looks whether its work has been done by others.
func (s *Store) renewLease(ctx context.Context, waits bool, name string) error {
	h := s.heldAs(name)
	if h == nil {
		return fmt.Errorf("renewing the lock %s: %w", name, ErrNotHeld)
	}
	return s.fenced(h, "", s.do(ctx, waits, "renew_lock", func(ctx context.Context) error {
		left, err := s.acquire(ctx, h)
		if err == nil && left > 0 {
			err = ErrFenced
		}
		return err
	}))
}

// unlock gives a lock up. One that was lost is given up already.
func (s *Store) unlock(ctx context.Context, name string) error {
	h := s.heldAs(name)
	if h == nil {
		return fmt.Errorf("unlocking %s: %w", name, ErrNotHeld)
	}
	h.stop()
	<-h.done
	token, _ := h.ticket()
	err := s.do(ctx, false, "unlock", func(ctx context.Context) error {
		return s.run(ctx, unlockScript, s.names(kindLock, name), token).Err()
	})
	s.mu.Lock()
	owner := s.held[name] == h
	if owner {
		delete(s.held, name)
	}
	s.mu.Unlock()
	if owner {
		h.release()
	}
	if err != nil {
		return fmt.Errorf("unlocking %s: it is free after %s: %w", name, s.o.Lease, err)
	}
	return nil
}

// giveUp frees a lock that was perhaps taken.
func (s *Store) giveUp(name, token string) error {
	return s.do(s.ctx, false, "unlock", func(ctx context.Context) error {
		return s.run(ctx, unlockScript, s.names(kindLock, name), token).Err()
	})
}
