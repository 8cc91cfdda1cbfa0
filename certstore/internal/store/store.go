// Package store keeps what certmagic stores (certificates, private keys, ACME
// accounts, challenges, OCSP staples) in Redis, for all gateways that use the
// same Redis, key prefix and encryption keys.
//
// An entry is one Redis hash under a name that only the holder of the key can
// compute. A directory is a hash of its children, whose values are their sealed
// names, so that it can be listed. All keys have one hash tag: a script changes
// an entry and the directories that lead to it at once, in a Cluster too.
//
// A lock is a key with a short lease, which a goroutine of the holder renews. An
// entry notes the number (fence) of the lock it was written under. A holder that
// lost its lock cannot write or delete what that lock protects.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/certstore/internal/seal"
)

// Defaults of Options.
const (
	DefaultTimeout = 2 * time.Second
	DefaultLease   = 15 * time.Second
)

// retryPause is the time between two tries of one operation.
const retryPause = 100 * time.Millisecond

// operationPolicy is the name of the only operation that runs no script.
const operationPolicy = "policy"

// Options are the settings of a Store.
type Options struct {
	// Client is the connection. It honors deadlines of contexts and does not retry
	// by itself: only then does an operation end in time.
	Client redis.UniversalClient

	// Prefix begins every key in Redis. Default: "tentagate".
	Prefix string

	// Keys encrypt; the first is used for what is written.
	Keys seal.Ring

	// Timeout bounds an operation, with all its tries. Default: DefaultTimeout.
	Timeout time.Duration

	// Lease is after how long the lock of a holder that is gone is free. Default:
	// DefaultLease.
	Lease time.Duration

	// Retain keeps the store open until release is called. It is called for each
	// lock. Default: nothing is done.
	Retain func() (release func())

	// Observe is called with each event. It must not block. Default: none.
	Observe func(Event)
}

// Errors of a Store. Whether an entry exists is fs.ErrNotExist.
var (
	// ErrUnavailable means that Redis did not answer in time, or has not answered
	// just before.
	ErrUnavailable = errors.New("redis is unreachable")

	// ErrWrongKey means that there are entries that the configured keys cannot
	// decrypt. Nothing is read or written then.
	ErrWrongKey = errors.New("redis holds entries that are encrypted with another key")

	// ErrFenced means that the lock that protects the entry was lost: another
	// gateway holds it, or has written the entry since.
	ErrFenced = errors.New("the lock was lost to another gateway meanwhile")

	// ErrNotHeld means that a lock is not held by this process.
	ErrNotHeld = errors.New("the lock is not held")
)

// Store is a certificate storage. Its views have the methods of certmagic's
// interfaces. It is safe for concurrent use.
type Store struct {
	o    Options
	base string // what every key begins with, hash tag included
	ids  []any  // of the keys, as arguments of scripts
	gate gate

	mu   sync.Mutex
	held map[string]*held // locks of this process, by name

	ctx    context.Context
	cancel context.CancelFunc
	start  sync.Once
	tasks  sync.WaitGroup
	state  state
}

// New returns a store. It sends nothing by itself before Start.
func New(o Options) *Store {
	o.Prefix = cmp.Or(o.Prefix, "tentagate")
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Lease <= 0 {
		o.Lease = DefaultLease
	}
	if o.Retain == nil {
		o.Retain = func() func() { return func() {} }
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	s := &Store{o: o, base: o.Prefix + ":certificates:{tls}:", held: map[string]*held{}}
	for _, id := range o.Keys.IDs() {
		s.ids = append(s.ids, id)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends what the store does by itself. The client is the caller's.
func (s *Store) Close() {
	s.cancel()
	s.tasks.Wait()
}

// String names the storage in logs of certmagic.
func (s *Store) String() string { return "redis:" + s.o.Prefix }

// do carries out an operation. It tries again while Redis cannot carry it out,
// as during a failover, until its time is over; after that, operations fail at
// once until Redis answers again. One that waits goes on until its context
// ends.
func (s *Store) do(ctx context.Context, waits bool, name string, f func(context.Context) error) error {
	began := time.Now()
	err := s.attempts(ctx, name, f)
	for reported := false; waits && unavailable(err); reported = true {
		if !reported {
			s.o.Observe(Event{Kind: Waiting, Name: name, Err: err})
		}
		if !sleep(ctx, jitter(retryPause, 10*retryPause)) {
			break
		}
		again := s.attempts(ctx, name, f)
		if again != nil && ctx.Err() != nil {
			break // what Redis did says more than that the time is over
		}
		err = again
	}
	s.o.Observe(Event{Kind: Operation, Name: name, Took: time.Since(began), Err: err})
	return err
}

// unavailable reports whether an operation may succeed later.
func unavailable(err error) bool {
	return errors.Is(err, ErrUnavailable) || classify(err) == availability.Refused
}

// attempts is do for an operation that does not wait.
func (s *Store) attempts(ctx context.Context, name string, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if reason, open := s.gate.enter(time.Now()); !open {
		return fmt.Errorf("%s: %w: %w", name, ErrUnavailable, reason)
	}
	limited, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	var refusal error
	for {
		err := safely(func() error { return f(limited) })
		class := classify(err)
		if class == availability.Outage && refusal != nil && limited.Err() != nil {
			class, err = availability.Refused, refusal // it answers: the last try had no time left
		}
		switch {
		case class == availability.Answered:
			s.answered(name, err)
			return err
		case ctx.Err() != nil:
			s.gate.leave()
			return ctx.Err()
		case class == availability.Canceled: // the client is closed
			s.gate.leave()
			return err
		}
		if class == availability.Refused {
			refusal = err
		}
		// Refused: a replica that is about to be promoted, a server that is full.
		if sleep(limited, retryPause) {
			continue
		}
		if class == availability.Refused {
			s.reached()
			return err
		}
		if s.gate.fail(time.Now(), err) {
			s.o.Observe(Event{Kind: Unreachable, Err: err})
		}
		return fmt.Errorf("%s: %w: %w", name, ErrUnavailable, err)
	}
}

// answers are the errors of this package that only a server that works brings
// about.
var answers = []error{ErrWrongKey, ErrFenced, fs.ErrNotExist, seal.ErrCorrupt, errReply}

func classify(err error) availability.Class {
	for _, answer := range answers {
		if errors.Is(err, answer) {
			return availability.Answered
		}
	}
	return availability.Classify(err)
}

// reached notes that Redis answers.
func (s *Store) reached() {
	if s.gate.succeed() {
		s.o.Observe(Event{Kind: Reachable})
	}
}

// answered notes that Redis answers, and whether the keys are the right ones. Only
// the scripts compare them, so looking up the eviction policy tells nothing.
func (s *Store) answered(name string, err error) {
	s.reached()
	if name != operationPolicy {
		s.state.wrongKey(err)
	}
	if errors.Is(err, ErrWrongKey) {
		s.o.Observe(Event{Kind: WrongKey, Err: err})
	}
}

// run runs a script on keys without the common beginning. The first of them is
// the register of encryption keys, which each script compares with those that
// this process has.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	full := make([]string, 0, 1+len(keys))
	full = append(full, s.base+"keys")
	for _, key := range keys {
		full = append(full, s.base+key)
	}
	all := make([]any, 0, 1+len(s.ids)+len(args))
	all = append(all, len(s.ids))
	all = append(all, s.ids...)
	all = append(all, args...)
	cmd := script.Run(ctx, s.o.Client, full, all...)
	cmd.SetErr(explain(cmd.Err()))
	return cmd
}

// safely turns a panic into an error: go-redis panics where a server announces
// an absurdly long reply.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("malformed reply: %v", p)
		}
	}()
	return f()
}

// sleep waits, and reports whether the context still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
