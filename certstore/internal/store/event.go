package store

import (
	"errors"
	"sync"
	"time"
)

// Kind is what an Event is about.
type Kind uint8

const (
	// Operation is the end of an operation. Name, Took and Err are set.
	Operation Kind = iota
	// Unreachable means that Redis stopped answering, for Err.
	Unreachable
	// Reachable means that Redis answers again.
	Reachable
	// Waiting means that the operation Name waits until Redis carries it out: it
	// begins to manage a certificate, or writes one that was issued.
	Waiting
	// WrongKey means that an operation was refused for Err.
	WrongKey
	// LockLost means that the lock Name, which this process held, is held by
	// another gateway.
	LockLost
	// Fenced means that a write or deletion of Name was refused, because its lock
	// was lost.
	Fenced
	// Evicting means that Redis may evict entries, by the policy Name.
	Evicting
	// Kept means that Redis evicts no entries.
	Kept
	// Reencrypted means that Count entries were encrypted with the first key. Err
	// is nil if no entry needs another key any more.
	Reencrypted
)

// Operations are the names of an Operation.
var Operations = []string{"store", "load", "stat", "exists", "delete", "list", "lock", "renew_lock", "unlock", operationPolicy, "reencrypt"}

// Event is something that happened.
type Event struct {
	Kind  Kind
	Name  string
	Took  time.Duration
	Count int
	Err   error
}

// Status is what is known of the storage now.
type Status struct {
	// Reason is why operations fail: ErrUnavailable or ErrWrongKey, or nil.
	Reason error
	// Policy is the eviction policy of Redis, empty while it is unknown.
	Policy string
	// Evicting says that the policy may remove entries.
	Evicting bool
	// Locks are the locks that this process holds.
	Locks int
}

// state is what operations leave behind for Status.
type state struct {
	mu       sync.Mutex
	wrong    error
	policy   string
	evicting bool
}

func (s *state) wrongKey(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = nil
	if errors.Is(err, ErrWrongKey) {
		s.wrong = err
	}
}

// setPolicy notes the eviction policy, and reports whether it has changed.
func (s *state) setPolicy(policy string, evicting bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.policy != policy
	s.policy, s.evicting = policy, evicting
	return changed
}

// Status returns what is known. It waits for nothing.
func (s *Store) Status() Status {
	s.state.mu.Lock()
	status := Status{Reason: s.state.wrong, Policy: s.state.policy, Evicting: s.state.evicting}
	s.state.mu.Unlock()
	if down, _ := s.gate.isDown(); down {
		status.Reason = ErrUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Locks = len(s.held)
	return status
}
