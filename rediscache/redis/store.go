package redis

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/rediscache/object"
)

// Defaults of Options.
const (
	DefaultBudget      = 20 * time.Millisecond
	DefaultMaxBody     = 8 << 20
	DefaultQueueLength = 1024
	DefaultQueueBytes  = 64 << 20
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
	// writeTimeout bounds one write. No request waits for it.
	writeTimeout = 2 * time.Second
)

// Options are what the second tier needs.
type Options struct {
	// Client is for the path of a request. It must honour the deadline of a
	// context and must not retry.
	Client redis.UniversalClient
	// Background is for writes and administration. Default: Client.
	Background redis.UniversalClient
	// Prefix begins every key. Default: "tentagate".
	Prefix string
	// Budget is the longest that Get and Select take. Default: 20ms.
	Budget time.Duration
	// MaxBody is the largest body that is kept, in bytes. Default: 8 MiB.
	MaxBody int
	// Compress has text without a content coding kept compressed with zstd.
	Compress bool
	// QueueLength and QueueBytes bound the writes that wait. Default: 1024 of
	// them, 64 MiB.
	QueueLength int
	QueueBytes  int64
	// Ready reports whether what is read can be judged: whether the
	// invalidations made elsewhere are known here. It may wait for that until
	// its context is done, which is within the budget. Default: always.
	Ready func(context.Context) bool
	// Admit reports whether a response that was read may be used at all; see
	// Epochs.Admit. Default: always.
	Admit func(*object.Object) bool
	// Changed, if set, is called when Redis is left alone because it does not
	// answer (true), and when it is used again (false). It must not block.
	Changed func(away bool)
}

// Store keeps entries in Redis. Its methods may be called by many goroutines
// at once. It implements object.Store and object.Selector.
type Store struct {
	o       Options
	breaker *breaker
	reads   chan struct{}

	// mu guards the queues against being closed while they are written to.
	mu     sync.RWMutex
	closed bool
	queues [writers]chan job
	queued atomic.Int64
	done   sync.WaitGroup

	waiting waiting

	n counters
}

type counters struct {
	hits, misses, skipped, errors, late, corrupt     atomic.Int64
	writes, dropped, writeErrors, oversize, removals atomic.Int64
}

// NewStore returns the tier. It dials when there is something to do. Close ends
// it; the clients stay open.
func NewStore(o Options) *Store {
	if o.Background == nil {
		o.Background = o.Client
	}
	if o.Prefix == "" {
		o.Prefix = "tentagate"
	}
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.QueueLength <= 0 {
		o.QueueLength = DefaultQueueLength
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.Ready == nil {
		o.Ready = func(context.Context) bool { return true }
	}
	if o.Admit == nil {
		o.Admit = func(*object.Object) bool { return true }
	}
	if o.Changed == nil {
		o.Changed = func(bool) {}
	}
	s := &Store{o: o, reads: make(chan struct{}, maxReads)}
	s.waiting.m = map[[16]byte][]waitingObject{}
	s.breaker = newBreaker(o.Budget, func(ctx context.Context) error {
		// A look-up and not PING: a Cluster that has lost slots answers PING.
		err := o.Client.Exists(ctx, s.key(object.NewKey("probe"), "i")).Err()
		if isAnswer(err) {
			return nil
		}
		return err
	}, o.Changed)
	for i := range s.queues {
		s.queues[i] = make(chan job, max(o.QueueLength/writers, 1))
		s.done.Add(1)
		go s.write(s.queues[i])
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

// isAnswer reports whether Redis itself said no, and is well otherwise.
func isAnswer(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return true
	}
	if _, ok := errors.AsType[redis.Error](err); !ok {
		return false
	}
	for _, unwell := range []string{"LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY", "NOAUTH", "WRONGPASS", "NOPERM", "MOVED", "ASK", "ERR max number of clients"} {
		if strings.HasPrefix(err.Error(), unwell) {
			return false
		}
	}
	return true
}

// Get returns the newest variants of the key, or nil.
func (s *Store) Get(ctx context.Context, key object.Key) *object.Entry {
	return s.Select(ctx, key, func([]string, string) bool { return true })
}

// Select returns those variants of the key that match accepts, newest first,
// or nil. It takes no longer than the budget.
func (s *Store) Select(ctx context.Context, key object.Key, match func(vary []string, variant string) bool) *object.Entry {
	if e := s.waiting.get(key, match); e != nil {
		s.n.hits.Add(1)
		return e
	}
	limited, cancel := context.WithTimeout(ctx, s.o.Budget)
	defer cancel()
	if s.breaker.Open() || !s.o.Ready(limited) {
		s.n.skipped.Add(1)
		return nil
	}
	entry, err := s.fetch(ctx, limited, key, match)
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

// errNotAsked says that Redis is away or has too much to do.
var errNotAsked = errors.New("redis is not asked")

// ask calls f and returns what it returns, within what is left of the budget:
// limited is ctx with it. It tells the breaker how it went. f runs in a
// goroutine of its own, so the budget holds even where the client's deadlines do
// not, as while it looks for a Cluster's nodes; and it may go on after ask has
// returned an error, so it must not use anything of the request.
func ask[T any](s *Store, ctx, limited context.Context, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var r result
	if s.breaker.Open() {
		return r.value, errNotAsked
	}
	select {
	case s.reads <- struct{}{}:
	default:
		return r.value, errNotAsked
	}
	answer := make(chan result, 1)
	go func() {
		defer func() { <-s.reads }()
		v, err := f(limited)
		answer <- result{v, err}
	}()
	select {
	case r = <-answer:
	case <-limited.Done():
		r.err = limited.Err()
	}
	switch {
	case isAnswer(r.err):
		s.breaker.Report(true)
	case ctx.Err() != nil:
		// The request is over; nothing can be said of Redis.
	case limited.Err() != nil:
		s.n.late.Add(1)
		s.breaker.Report(false)
	default:
		s.n.errors.Add(1)
		s.breaker.Report(false)
	}
	return r.value, r.err
}

// fetch reads the index, then the variants, then the parts of long bodies. The
// variant of a response without Vary, the usual one, has a name known beforehand
// and is read together with the index. match is only called here and not in the
// functions given to ask: it looks at the request.
func (s *Store) fetch(ctx, limited context.Context, key object.Key, match func([]string, string) bool) (*object.Entry, error) {
	type first struct {
		index *redis.MapStringStringCmd
		plain *redis.StringCmd
	}
	got, err := ask(s, ctx, limited, func(ctx context.Context) (f first, err error) {
		err = pipelined(ctx, s.o.Client, func(p redis.Pipeliner) {
			f.index = p.HGetAll(ctx, s.key(key, "i"))
			f.plain = p.Get(ctx, s.key(key, "v:"+plainVariant))
		})
		return f, err
	})
	if err != nil {
		return nil, err
	}
	s.repair(key, "i", got.index.Err())
	wanted := s.wanted(key, got.index.Val(), match)
	if got.plain.Err() == nil && len(got.index.Val()) == 0 && match(nil, "") {
		wanted = append(wanted, indexed{id: plainVariant}) // the index was evicted
	}
	var names []string
	for _, v := range wanted {
		if v.id != plainVariant {
			names = append(names, "v:"+v.id)
		}
	}
	values, err := s.values(ctx, limited, key, names)
	if err != nil {
		return nil, err
	}
	entry := &object.Entry{Key: key}
	for _, v := range wanted {
		value := got.plain
		if v.id != plainVariant {
			value, values = values[0], values[1:]
		}
		o, err := s.open(ctx, limited, key, v.id, value)
		if err != nil {
			return nil, err
		}
		if o != nil && match(o.Vary, o.Variant) && s.o.Admit(o) {
			entry.Variants = append(entry.Variants, o)
		}
	}
	if len(entry.Variants) == 0 {
		return nil, nil
	}
	return entry, nil
}

// values reads some of the Redis keys of a primary key.
func (s *Store) values(ctx, limited context.Context, key object.Key, names []string) ([]*redis.StringCmd, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return ask(s, ctx, limited, func(ctx context.Context) ([]*redis.StringCmd, error) {
		values := make([]*redis.StringCmd, len(names))
		err := pipelined(ctx, s.o.Client, func(p redis.Pipeliner) {
			for i, name := range names {
				values[i] = p.Get(ctx, s.key(key, name))
			}
		})
		return values, err
	})
}

// pipelined sends the commands in one go. Its error is the first that is no
// answer of Redis; answers are left in the commands.
func pipelined(ctx context.Context, c redis.UniversalClient, f func(redis.Pipeliner)) error {
	p := c.Pipeline()
	f(p)
	if p.Len() == 0 {
		return nil
	}
	cmds, err := p.Exec(ctx)
	for _, cmd := range cmds {
		if e := cmd.Err(); !isAnswer(e) {
			return e
		}
	}
	if !isAnswer(err) {
		return err
	}
	return nil
}

// open decodes a variant and fetches the parts of its body. It returns nil for
// one that is not there, is damaged or is another key's.
func (s *Store) open(ctx, limited context.Context, key object.Key, id string, value *redis.StringCmd) (*object.Object, error) {
	if value.Err() != nil {
		s.repair(key, "v:"+id, value.Err())
		return nil, nil
	}
	bytes, _ := value.Bytes()
	h, err := decode(value.Val(), bytes)
	if err != nil {
		s.discard(key, "v:"+id)
		return nil, nil
	}
	if h.key != key.Full || h.bodySize > s.o.MaxBody || variantID(h.object) != id {
		return nil, nil
	}
	names := make([]string, h.chunks)
	for i := range names {
		names[i] = chunkName(id, i)
	}
	parts, err := s.values(ctx, limited, key, names)
	if err != nil {
		return nil, err
	}
	chunks := make([][]byte, 0, len(parts))
	for _, part := range parts {
		if b, err := part.Bytes(); err == nil {
			chunks = append(chunks, b)
		}
	}
	o, err := h.unpack(chunks)
	switch {
	case errors.Is(err, errCorrupt):
		s.discard(key, "v:"+id)
		return nil, nil
	case err != nil:
		return nil, nil
	}
	return o, nil
}

// repair deletes a key that holds another type.
func (s *Store) repair(key object.Key, rest string, err error) {
	if err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") {
		s.discard(key, rest)
	}
}

// discard deletes a key that holds rubbish.
func (s *Store) discard(key object.Key, rest string) {
	s.n.corrupt.Add(1)
	s.enqueue(job{key: key, discard: rest})
}

// plainVariant is the identifier of the variant of a response without Vary.
const plainVariant = "0"

// variantID returns the identifier of a variant within its key.
func variantID(o *object.Object) string {
	if len(o.Vary) == 0 && o.Variant == "" {
		return plainVariant
	}
	k := object.NewKey(append(slices.Clone(o.Vary), o.Variant)...)
	return hex.EncodeToString(k.Hash[:8])
}

func chunkName(id string, i int) string { return "c:" + id + ":" + strconv.Itoa(i) }

// indexed is a variant as the index describes it.
type indexed struct {
	id      string
	stored  int64 // Unix time in microseconds
	until   int64 // the last useful moment, likewise
	chunks  int
	vary    []string
	variant string
}

// String returns the description as it is written.
func (v indexed) String() string {
	b := fmt.Appendf(nil, "%016d%016d%05d", v.stored, v.until, v.chunks)
	return string(appendText(appendTexts(b, v.vary), v.variant))
}

func parseIndexed(id, s string) (indexed, bool) {
	const fixed = 16 + 16 + 5
	v := indexed{id: id}
	if len(s) < fixed {
		return v, false
	}
	var errs [3]error
	v.stored, errs[0] = strconv.ParseInt(s[:16], 10, 64)
	v.until, errs[1] = strconv.ParseInt(s[16:32], 10, 64)
	v.chunks, errs[2] = strconv.Atoi(s[32:fixed])
	r := &reader{s: s, at: fixed}
	v.vary, v.variant = r.texts(), r.text()
	return v, errors.Join(errs[:]...) == nil && !r.bad && r.at == len(s)
}

// wanted returns the variants that match accepts, newest first.
func (s *Store) wanted(key object.Key, index map[string]string, match func([]string, string) bool) []indexed {
	var list []indexed
	now := time.Now().UnixMicro()
	for id, text := range index {
		v, ok := parseIndexed(id, text)
		if !ok {
			s.discard(key, "i")
			return nil
		}
		if v.until > now && match(v.vary, v.variant) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b indexed) int { return int(min(max(b.stored-a.stored, -1), 1)) })
	return list[:min(len(list), maxFetched)]
}

// Stats are numbers of the tier since the start, for metrics and the admin API.
type Stats struct {
	// Hits and Misses count the look-ups that Redis answered.
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
	// Skipped counts look-ups left out because Redis was known to be away, its
	// invalidations were not known yet or too many look-ups were under way.
	Skipped int64 `json:"skipped"`
	// Errors and Late count look-ups that failed, and that took longer than the
	// budget.
	Errors int64 `json:"errors"`
	Late   int64 `json:"late"`
	// Corrupt counts values that were damaged, unknown or of another version.
	Corrupt int64 `json:"corrupt"`
	// Writes, WriteErrors and Dropped count what was written, what failed and
	// what was not tried because too much was waiting or Redis was away.
	Writes      int64 `json:"writes"`
	WriteErrors int64 `json:"write_errors"`
	Dropped     int64 `json:"dropped"`
	// Oversize counts bodies that were too large to be kept.
	Oversize int64 `json:"oversize"`
	// Deletes counts entries that were deleted.
	Deletes int64 `json:"deletes"`
	// QueuedBytes wait to be written.
	QueuedBytes int64 `json:"queued_bytes"`
	// Away is true while Redis is left alone because it does not answer.
	Away bool `json:"away"`
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	return Stats{
		Hits: s.n.hits.Load(), Misses: s.n.misses.Load(), Skipped: s.n.skipped.Load(),
		Errors: s.n.errors.Load(), Late: s.n.late.Load(), Corrupt: s.n.corrupt.Load(),
		Writes: s.n.writes.Load(), WriteErrors: s.n.writeErrors.Load(), Dropped: s.n.dropped.Load(),
		Oversize: s.n.oversize.Load(), Deletes: s.n.removals.Load(),
		QueuedBytes: s.queued.Load(), Away: s.breaker.Open(),
	}
}

// Interface guards
var (
	_ object.Store    = (*Store)(nil)
	_ object.Selector = (*Store)(nil)
	_ object.Leaser   = (*Store)(nil)
)
