package dpop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
)

// ID is what a proof is remembered by.
type ID [16]byte

// replayID names a proof by its key and `jti`: a client cannot use up the `jti`s
// of another, and how long they are does not count (RFC 9449 §11.1).
func replayID(thumbprint, jti string) ID {
	sum := sha256.Sum256([]byte(strconv.Itoa(len(thumbprint)) + ":" + thumbprint + jti))
	return ID(sum[:16])
}

// Replays remembers proofs for as long as they could be used again.
type Replays interface {
	// Seen reports whether the proof was seen before, and remembers it.
	Seen(ctx context.Context, id ID, now time.Time) bool
}

// shards is how many locks a memory has.
const shards = 32

// Memory remembers proofs in this process.
type Memory struct {
	life   time.Duration
	limit  int // of one generation of one shard
	shards [shards]shard
}

// shard has two generations: the current and the previous one. A
// generation is dropped as a whole when all of it has expired, so that no proof
// needs a timer.
type shard struct {
	mu        sync.Mutex
	new, old  map[ID]struct{}
	rotatesAt time.Time
}

// NewMemory remembers each proof for at least the given time, as long as no more
// than the given number come in it. When there are more, the oldest are
// forgotten early.
func NewMemory(life time.Duration, proofs int) *Memory {
	return &Memory{life: life, limit: max(proofs/shards, 1)}
}

// Seen implements Replays.
func (m *Memory) Seen(_ context.Context, id ID, now time.Time) bool {
	s := &m.shards[id[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case now.Sub(s.rotatesAt) >= m.life:
		// Nothing came for so long that both generations are over.
		s.new, s.old, s.rotatesAt = map[ID]struct{}{}, nil, now.Add(m.life)
	case !now.Before(s.rotatesAt):
		s.rotate(now.Add(m.life))
	case len(s.new) >= m.limit:
		forgottenEarly.Add(uint64(len(s.old)))
		s.rotate(now.Add(m.life))
	}
	if _, seen := s.new[id]; seen {
		return true
	}
	if _, seen := s.old[id]; seen {
		return true
	}
	s.new[id] = struct{}{}
	return false
}

func (s *shard) rotate(next time.Time) {
	s.old, s.new, s.rotatesAt = s.new, map[ID]struct{}{}, next
}

// forgottenEarly counts for all memories, so that the number never falls when
// one ends.
var forgottenEarly atomic.Uint64

// ForgottenEarly returns how many proofs this process has forgotten while they
// might still have been used again.
func ForgottenEarly() uint64 { return forgottenEarly.Load() }

// Len returns how many proofs are remembered.
func (m *Memory) Len() (n int) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.new) + len(s.old)
		s.mu.Unlock()
	}
	return n
}

const (
	// maxUnshared is how many proofs wait for Redis at most, unsharedBatch how many
	// are written at once.
	maxUnshared   = 10_000
	unsharedBatch = 500
)

// Shared remembers proofs in memory, and in Redis for all gateways. While Redis
// is unavailable, a proof is accepted once by each gateway; Redis gets it before
// it is used again, so that no other gateway accepts it from then on.
type Shared struct {
	memory       *Memory
	client       redis.UniversalClient
	availability *availability.Engine
	prefix       string
	observe      func(error)
	unsubscribe  func()

	mu       sync.Mutex
	unshared []unshared
	waiting  atomic.Bool // there are unshared proofs, and no goroutine writes them
	done     sync.WaitGroup
}

// unshared is a proof that Redis does not have.
type unshared struct {
	id    ID
	until time.Time
}

// NewShared makes one whose keys begin with the prefix. observe is called for
// every command of a request with its result. Close ends it.
func NewShared(memory *Memory, client redis.UniversalClient, a *availability.Engine, prefix string, observe func(error)) *Shared {
	s := &Shared{memory: memory, client: client, availability: a, prefix: prefix + ":jwt:dpop:", observe: observe}
	s.unsubscribe = a.Subscribe(availability.Subscriber{Name: "dpop", Restore: s.restore})
	return s
}

// Close ends it.
func (s *Shared) Close() {
	s.unsubscribe()
	s.done.Wait()
}

// Seen implements Replays. The request waits for Redis no longer than the budget
// that all features share.
func (s *Shared) Seen(ctx context.Context, id ID, now time.Time) bool {
	if s.memory.Seen(ctx, id, now) {
		return true
	}
	key := s.key(id)
	partition := s.availability.Partition(key)
	budget := availability.BudgetFrom(ctx)
	limit := s.availability.Budget()
	left := budget.Left(limit)
	if !partition.Writable() || left <= 0 {
		s.shareLater(id)
		return false
	}
	began := time.Now()
	defer func() { budget.Spend(time.Since(began)) }()
	// A client that cancels its request says nothing about Redis.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), left)
	defer cancel()
	err := s.client.SetArgs(ctx, key, 1, redis.SetArgs{Mode: "NX", TTL: s.memory.life}).Err()
	partition.Report(availability.Call{Began: began, Write: true, Short: left < limit/2}, err)
	seen := err == redis.Nil //nolint:errorlint // go-redis returns it bare
	if seen {
		err = nil
	}
	s.observe(err)
	if err != nil {
		s.shareLater(id)
	} else if s.waiting.Load() && s.waiting.CompareAndSwap(true, false) {
		s.done.Go(func() { s.share(partition) })
	}
	return seen
}

func (s *Shared) key(id ID) string { return s.prefix + hex.EncodeToString(id[:]) }

// shareLater queues a proof for Redis. If there are too many, the oldest is dropped:
// other gateways may accept it.
func (s *Shared) shareLater(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unshared) >= maxUnshared {
		s.unshared = s.unshared[1:]
	}
	s.unshared = append(s.unshared, unshared{id, time.Now().Add(s.memory.life)})
	s.waiting.Store(true)
}

// share writes what single requests could not.
func (s *Shared) share(p *availability.Partition) {
	ctx, cancel := context.WithTimeout(context.Background(), availability.RestoreTimeout)
	defer cancel()
	if s.restore(ctx, p) != nil {
		s.waiting.Store(true)
	}
}

// restore writes what is unshared to a partition before it is used again.
func (s *Shared) restore(ctx context.Context, p *availability.Partition) error {
	now := time.Now()
	s.mu.Lock()
	s.unshared = slices.DeleteFunc(s.unshared, func(u unshared) bool { return !u.until.After(now) })
	var all []unshared
	for _, u := range s.unshared {
		if s.availability.Partition(s.key(u.id)) == p {
			all = append(all, u)
		}
	}
	s.mu.Unlock()
	for batch := range slices.Chunk(all, unsharedBatch) {
		if err := s.write(ctx, batch, now); err != nil {
			return err
		}
		written := map[ID]bool{}
		for _, u := range batch {
			written[u.id] = true
		}
		s.mu.Lock()
		s.unshared = slices.DeleteFunc(s.unshared, func(u unshared) bool { return written[u.id] })
		s.mu.Unlock()
	}
	return nil
}

func (s *Shared) write(ctx context.Context, batch []unshared, now time.Time) error {
	cmds, _ := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, u := range batch {
			p.SetArgs(ctx, s.key(u.id), 1, redis.SetArgs{Mode: "NX", TTL: u.until.Sub(now)})
		}
		return nil
	})
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}
