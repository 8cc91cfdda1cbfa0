package redis

import (
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

const (
	// maxLife is the longest that anything is kept. Invalidations are
	// remembered for longer than that.
	maxLife = 31 * 24 * time.Hour
	// maxVariants is how many variants of one key are kept.
	maxVariants = 64
	// maxFetched is how many variants are fetched for one request.
	maxFetched = 8
	// maxReads is how many reads may be under way.
	maxReads = 512
	// queueLength and queueBytes bound the writes that wait.
	queueLength = 1024
	queueBytes  = 64 << 20
	// writeTimeout bounds one write. No request waits for it.
	writeTimeout = 2 * time.Second
)

// Options are what the second tier needs. All but Budget and Compress must be set.
type Options struct {
	// Client is for the path of a request. It must honour the deadline of a
	// context and must not retry.
	Client redis.UniversalClient
	// Background is for writes and administration.
	Background redis.UniversalClient
	// Prefix begins every key.
	Prefix string
	// Availability says which parts of Redis can be used.
	Availability *availability.Engine
	// Budget is the longest that a request waits in Get, Select and Lease; what
	// the context's availability.Budget has spent counts. Default: that of
	// Availability.
	Budget time.Duration
	// MaxBody is the largest body that is kept, in bytes.
	MaxBody int
	// Compress has text without a content coding kept compressed with zstd.
	Compress bool
	// Ready reports whether the invalidations made elsewhere are known here.
	// Nothing is read before.
	Ready func() bool
	// Admit reports whether a response that was read may be used at all; see
	// Epochs.Admit.
	Admit func(*object.Object) bool
}

// Store keeps entries in Redis. Its methods may be called by many goroutines
// at once, and none fails: a tier that cannot answer has a miss.
type Store struct {
	o     Options
	reads chan struct{}

	// mu guards the queues against being closed while they are written to.
	mu     sync.RWMutex
	closed bool
	queues [writers]chan job
	queued atomic.Int64
	done   sync.WaitGroup

	waiting waiting
	cluster bool

	n counters
}

// NewStore returns the tier. It dials when there is something to do. Close ends
// it; the clients stay open.
func NewStore(o Options) *Store {
	if o.Budget <= 0 {
		o.Budget = o.Availability.Budget()
	}
	o.Availability.Expect(o.Budget)
	s := &Store{o: o, reads: make(chan struct{}, maxReads)}
	_, s.cluster = o.Client.(*redis.ClusterClient)
	s.waiting.m = map[[16]byte][]waitingObject{}
	for i := range s.queues {
		s.queues[i] = make(chan job, queueLength/writers)
		s.done.Go(func() { s.write(s.queues[i]) })
	}
	return s
}

// key returns a key in Redis for something of the primary key.
func (s *Store) key(k object.Key, rest string) string {
	b := make([]byte, 0, len(s.o.Prefix)+len(":cache:{}:")+32+len(rest))
	b = append(append(b, s.o.Prefix...), ":cache:{"...)
	b = hex.AppendEncode(b, k.Hash[:])
	return string(append(append(b, "}:"...), rest...))
}

// partition returns the part of Redis that has the variants of the key.
func (s *Store) partition(k object.Key) *availability.Partition {
	if !s.cluster {
		return s.o.Availability.Partition("")
	}
	return s.o.Availability.Partition(s.key(k, ""))
}

// unavailable reports whether some of Redis is.
func (s *Store) unavailable() bool {
	for _, p := range s.o.Availability.Status() {
		if p.State == availability.Unavailable {
			return true
		}
	}
	return false
}

// isAnswer reports whether Redis answered.
func isAnswer(err error) bool {
	c := availability.Classify(err)
	return c == availability.Answered || c == availability.Refused
}

// Get returns the newest variants of the key, or nil.
func (s *Store) Get(ctx context.Context, key object.Key) *object.Entry {
	return s.Select(ctx, key, func([]string, string) bool { return true })
}

// Select returns those variants of the key that match accepts, newest first,
// or nil. It takes no longer than what the request has left of the budget
// (availability.WithBudget).
func (s *Store) Select(ctx context.Context, key object.Key, match func(vary []string, variant string) bool) *object.Entry {
	if e := s.waiting.get(key, match); e != nil {
		s.n.hits.Add(1)
		return e
	}
	if !s.partition(key).Readable() {
		s.n.skipped.Add(1)
		return nil
	}
	limited, end := availability.Limit(ctx, s.o.Budget)
	defer end()
	if limited.Err() != nil || !s.o.Ready() {
		s.n.skipped.Add(1)
		return nil
	}
	entry, err := s.fetch(ctx, limited, key, match, s.discard)
	switch {
	case errors.Is(err, errNotAsked):
		s.n.skipped.Add(1)
	case err != nil:
		// Counted by ask.
	case entry == nil:
		s.n.misses.Add(1)
	default:
		s.n.hits.Add(1)
	}
	return entry
}

// Peek is Select without effects: it counts no hits and misses, and keeps what is damaged.
func (s *Store) Peek(ctx context.Context, key object.Key, match func(vary []string, variant string) bool) *object.Entry {
	if e := s.waiting.get(key, match); e != nil {
		return e
	}
	if !s.partition(key).Readable() || !s.o.Ready() {
		return nil
	}
	limited, end := availability.Limit(ctx, s.o.Budget)
	defer end()
	entry, err := s.fetch(ctx, limited, key, match, func(object.Key, string) {})
	if err != nil {
		return nil
	}
	return entry
}
