package redis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/app/availability"
	"github.com/pythopus/tentagate/rediscache/internal/object"
)

// writers is how many goroutines write. Each has the keys of its own, so that
// the writes of one key stay in order.
const writers = 4

// job is one write: of an object, of the end of a key, of the end of one Redis
// key with an invalid value, or of the end of a lease.
type job struct {
	key     object.Key
	object  *object.Object
	discard string
	token   string
	size    int64
}

// Set writes a variant of the key, later. What was not written in time, or would
// be too much, is dropped and counted.
func (s *Store) Set(key object.Key, o *object.Object) {
	if len(o.Body) > s.o.MaxBody {
		s.n.oversize.Add(1)
		return
	}
	s.enqueue(job{key: key, object: o, size: int64(o.Size())})
}

// Delete forgets all variants of the key, later. It frees memory; whether a
// response may be used is a matter of its epoch.
func (s *Store) Delete(key object.Key) {
	s.waiting.forget(key)
	s.enqueue(job{key: key})
}

func (s *Store) enqueue(j job) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed || !s.partition(j.key).Readable() {
		s.n.dropped.Add(1)
		return
	}
	if s.queued.Add(j.size) > queueBytes {
		s.queued.Add(-j.size)
		s.n.dropped.Add(1)
		return
	}
	if j.object != nil {
		s.waiting.add(j.key, j.object)
	}
	select {
	case s.queues[j.key.Hash[0]%writers] <- j:
	default:
		s.waiting.remove(j.key, j.object)
		s.queued.Add(-j.size)
		s.n.dropped.Add(1)
	}
}

// waiting are the objects that are not written yet. Who asks for them right
// after they were set finds them here.
type waiting struct {
	mu sync.RWMutex
	m  map[[16]byte][]waitingObject
}

type waitingObject struct {
	key    string
	object *object.Object
}

func (w *waiting) add(key object.Key, o *object.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.m[key.Hash] = append(w.m[key.Hash], waitingObject{key.Full, o})
}

func (w *waiting) remove(key object.Key, o *object.Object) {
	if o == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := slices.DeleteFunc(w.m[key.Hash], func(x waitingObject) bool { return x.object == o })
	if len(rest) == 0 {
		delete(w.m, key.Hash)
	} else {
		w.m[key.Hash] = rest
	}
}

func (w *waiting) forget(key object.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.m, key.Hash)
}

// get returns the variants that match accepts, newest first, or nil.
func (w *waiting) get(key object.Key, match func([]string, string) bool) *object.Entry {
	w.mu.RLock()
	list := slices.Clone(w.m[key.Hash])
	w.mu.RUnlock()
	var e *object.Entry
	for _, x := range list {
		if x.key == key.Full && match(x.object.Vary, x.object.Variant) {
			e = e.With(key, x.object, maxFetched)
		}
	}
	return e
}

// Close ends the tier. It writes what is waiting for up to writeTimeout.
func (s *Store) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	for _, q := range s.queues {
		close(q)
	}
	s.mu.Unlock()
	s.done.Wait()
	// Reads that were given up end by their deadline.
	for range maxReads {
		s.reads <- struct{}{}
	}
}

func (s *Store) write(queue <-chan job) {
	var last time.Time // until when to write after Close
	for j := range queue {
		s.queued.Add(-j.size)
		if last.IsZero() {
			s.mu.RLock()
			if s.closed {
				last = time.Now().Add(writeTimeout)
			}
			s.mu.RUnlock()
		}
		if !s.partition(j.key).Readable() || !last.IsZero() && time.Now().After(last) {
			s.n.dropped.Add(1)
			s.waiting.remove(j.key, j.object)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
		s.do(ctx, j)
		cancel()
	}
}

func (s *Store) do(ctx context.Context, j job) {
	var err error
	began := time.Now()
	switch {
	case j.discard != "":
		err = s.o.Background.Unlink(ctx, s.key(j.key, j.discard)).Err()
	case j.token != "":
		if err = s.o.Background.Eval(ctx, release, []string{s.key(j.key, "l")}, j.token).Err(); err == nil {
			return
		}
	case j.object == nil:
		err = s.remove(ctx, j.key)
	default:
		err = s.store(ctx, j.key, j.object)
		s.waiting.remove(j.key, j.object)
	}
	if err != nil {
		s.n.writeErrors.Add(1)
		repair(j.key, "i", err, s.discard)
		if !isAnswer(err) {
			s.partition(j.key).Report(availability.Call{Began: began, Write: true}, err)
		} else if j.object != nil {
			// A full Redis refuses what is new. What is old should not be found
			// in its place.
			_ = s.o.Background.Unlink(ctx, s.key(j.key, "v:"+variantID(j.object))).Err()
		}
		return
	}
	if j.object != nil {
		s.n.writes.Add(1)
	} else {
		s.n.removals.Add(1)
	}
}

// list enters a variant in the index and keeps the index as long as the
// longest-lived of them, and no longer than its limit.
// KEYS[1] the index; ARGV: identifier, description, life in ms, limit.
const list = `
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local excess = redis.call('HLEN', KEYS[1]) - tonumber(ARGV[4])
if excess > 0 then
	local all = redis.call('HGETALL', KEYS[1])
	local ages = {}
	for i = 1, #all, 2 do ages[#ages + 1] = {string.sub(all[i + 1], 1, 16), all[i]} end
	table.sort(ages, function(a, b) return a[1] < b[1] end)
	for i = 1, excess do redis.call('HDEL', KEYS[1], ages[i][2]) end
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
`

// store writes the parts of the body, then the head, then the entry in the
// index: a reader that finds one of them finds those before it.
func (s *Store) store(ctx context.Context, key object.Key, o *object.Object) error {
	now := time.Now()
	life := min(o.UsefulUntil().Sub(now), maxLife)
	if life < time.Millisecond {
		return nil
	}
	value, chunks := pack(key, o, s.o.Compress)
	id := variantID(o)
	entry := indexed{
		id: id, stored: now.UnixMicro(), until: now.Add(life).UnixMicro(),
		chunks: len(chunks), vary: o.Vary, variant: o.Variant,
	}
	_, err := s.o.Background.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, chunk := range chunks {
			p.Set(ctx, s.key(key, chunkName(id, i)), chunk, life)
		}
		p.Set(ctx, s.key(key, "v:"+id), value, life)
		// The whole script and not its hash: a pipeline cannot send it later.
		p.Eval(ctx, list, []string{s.key(key, "i")}, id, entry.String(), life.Milliseconds(), maxVariants)
		return nil
	})
	return err
}

// remove deletes all variants of the key.
func (s *Store) remove(ctx context.Context, key object.Key) error {
	index, err := s.o.Background.HGetAll(ctx, s.key(key, "i")).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	keys := []string{s.key(key, "i"), s.key(key, "v:"+plainVariant)}
	for id, text := range index {
		v, _ := parseIndexed(id, text)
		if id != plainVariant {
			keys = append(keys, s.key(key, "v:"+id))
		}
		for i := range min(max(v.chunks, 0), 4096) {
			keys = append(keys, s.key(key, chunkName(id, i)))
		}
	}
	return s.o.Background.Unlink(ctx, keys...).Err()
}
