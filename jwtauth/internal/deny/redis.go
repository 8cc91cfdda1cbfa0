package deny

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// logLength is how many changes a gateway may miss and still catch up
	// without reading everything.
	logLength = 10_000
	// blockFor is how long one wait for changes lasts.
	blockFor = time.Second
	// compareEvery is how often the list is compared with Redis, in case that a
	// change got lost on the way.
	compareEvery = 5 * time.Second
	// readEvery is how often everything is read anew.
	readEvery = 30 * time.Second
	// scanCount is how much one command reads.
	scanCount = 1000
	// patience is how long Redis may take beyond what it was asked to wait.
	patience = 2 * time.Second
	// retryFirst and retryLast are the waits after a failure.
	retryFirst, retryLast = 100 * time.Millisecond, time.Second
)

// revokeScript adds an entry, unless one says as much already, and tells the
// followers. What has expired is removed a little later than due, so that
// clocks may differ.
//
// The epoch and the number of the last change are in the hash of the entries, so
// that one is not lost without the other.
//
// ARGV: id, before, expires, limit, a name for the epoch, length of the log.
// Returns 1, or 0 if there is no room.
var revokeScript = redis.NewScript(`
local t = redis.call('TIME')
local due = t[1] * 1000 - 60000
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', due, 'LIMIT', 0, 100)) do
	redis.call('HDEL', KEYS[1], id)
	redis.call('ZREM', KEYS[2], id)
end
local before, expires = tonumber(ARGV[2]), tonumber(ARGV[3])
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then
	local b, e = string.match(old, '^(%d+) (%d+)$')
	b, e = tonumber(b or 0), tonumber(e or 0)
	if b >= before and e >= expires then return 1 end
	before, expires = math.max(b, before), math.max(e, expires)
elseif redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) + 2 then
	return 0
end
local text = string.format('%.0f %.0f', before, expires)
redis.call('HSET', KEYS[1], ARGV[1], text)
redis.call('ZADD', KEYS[2], expires, ARGV[1])
redis.call('HSETNX', KEYS[1], 'epoch', ARGV[5])
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'seq', seq, 'epoch', redis.call('HGET', KEYS[1], 'epoch'), 'id', ARGV[1], 'mark', text)
return 1
`)

// restoreScript removes an entry and tells the followers. ARGV:
// id, length of the log.
var restoreScript = redis.NewScript(`
local n = redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if n == 1 then
	local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
	redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'seq', seq, 'epoch', redis.call('HGET', KEYS[1], 'epoch') or '', 'id', ARGV[1], 'mark', '')
end
return n
`)

// stateScript returns the epoch, the number of the last change, and its name in
// the log, of one moment.
var stateScript = redis.NewScript(`
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
local id = '0-0'
if last[1] then id = last[1][1] end
return {redis.call('HGET', KEYS[1], 'epoch') or '', redis.call('HGET', KEYS[1], 'seq') or '0', id}
`)

// errMissed says that the log does not lead on from what the list has.
var errMissed = errors.New("changes were missed")

func (s *Store) send(ctx context.Context, id ID, m mark) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ok, err := revokeScript.Run(ctx, s.o.Redis, s.keys, id.String(), m.before, m.expires, s.entries.Load(), rand.Text(), logLength).Int()
	if err == nil && ok == 0 {
		err = ErrFull
	}
	return err
}

func (s *Store) heard() { s.contact.Store(s.o.Now().UnixNano()) }

// follow keeps the list up to date until the store ends.
func (s *Store) follow() {
	wait, lost := retryFirst, false
	for s.ctx.Err() == nil {
		err := s.read(s.ctx)
		if err == nil {
			if lost {
				s.o.Observe(nil)
			}
			lost, wait = false, retryFirst
			if err = s.listen(s.ctx); err == nil || errors.Is(err, errMissed) {
				continue
			}
		}
		if s.ctx.Err() != nil {
			return
		}
		if !lost {
			lost = true
			s.o.Observe(err)
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
		}
		wait = min(2*wait, retryLast)
	}
}

type state struct {
	epoch string
	seq   int64
	last  string
}

func (s *Store) state(ctx context.Context) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var st state
	values, err := stateScript.Run(ctx, s.o.Redis, s.keys).StringSlice()
	if err != nil {
		return st, err
	}
	if len(values) != 3 {
		return st, fmt.Errorf("the state of the revocations has %d values, not 3", len(values))
	}
	st.epoch, st.last = values[0], values[2]
	st.seq, err = strconv.ParseInt(values[1], 10, 64)
	return st, err
}

// read makes the list what Redis holds. What Redis was not told yet, or has
// lost, it is told before.
func (s *Store) read(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	st, err := s.state(ctx)
	if err != nil {
		return err
	}
	if s.epoch != "" && (st.epoch != s.epoch || st.seq < s.seq) {
		// It was flushed, or restarted without its data or with older ones.
		for _, e := range s.Entries(s.o.Now(), -1) {
			s.pending[e.ID] = e.mark()
		}
	}
	if len(s.pending) > 0 {
		now := s.o.Now().UnixMilli()
		for id, m := range s.pending {
			if m.expires > now {
				// What has no room there was revoked here while nobody could know.
				if err := s.send(ctx, id, m); err != nil && !errors.Is(err, ErrFull) {
					return err
				}
			}
			delete(s.pending, id)
			s.heardAgain()
		}
		if st, err = s.state(ctx); err != nil {
			return err
		}
	}
	marks := map[ID]mark{}
	for cursor := uint64(0); ; {
		scanning, cancel := context.WithTimeout(ctx, patience)
		var fields []string
		fields, cursor, err = s.o.Redis.HScan(scanning, s.keys[0], cursor, "", scanCount).Result()
		cancel()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(fields); i += 2 {
			// What cannot be read was not written by a gateway.
			if id, m, ok := decode(fields[i], fields[i+1]); ok {
				marks[id] = m
			}
		}
		s.heardAgain()
		if cursor == 0 {
			break
		}
	}
	s.replace(marks)
	s.sweep(s.o.Now(), true)
	s.epoch, s.seq, s.last = st.epoch, st.seq, st.last
	s.heard()
	return nil
}

// heardAgain notes a word from Redis; it does not make a list that was never
// read whole a good one.
func (s *Store) heardAgain() {
	if s.contact.Load() != 0 {
		s.heard()
	}
}

func decode(idText, text string) (ID, mark, bool) {
	id, err := ParseID(idText)
	if err != nil {
		return id, mark{}, false
	}
	before, expires, ok := strings.Cut(text, " ")
	b, err := strconv.ParseInt(before, 10, 64)
	e, err2 := strconv.ParseInt(expires, 10, 64)
	return id, mark{b, e}, ok && err == nil && err2 == nil
}

// listen follows the log, until everything is due to be read again.
func (s *Store) listen(ctx context.Context) error {
	began := time.Now()
	compared := began
	for time.Since(began) < s.readEvery {
		if time.Since(compared) >= compareEvery {
			st, err := s.state(ctx)
			if err != nil {
				return err
			}
			if st.epoch != s.epoch || st.seq < s.seq {
				return errMissed
			}
			compared = time.Now()
		}
		waiting, cancel := context.WithTimeout(ctx, blockFor+patience)
		streams, err := s.o.Redis.XRead(waiting, &redis.XReadArgs{
			Streams: []string{s.keys[2], s.last}, Count: scanCount, Block: blockFor,
		}).Result()
		cancel()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		for _, stream := range streams {
			if err := s.apply(ctx, stream.Messages); err != nil {
				return err
			}
		}
		s.heard()
		s.sweep(s.o.Now(), false)
	}
	return nil
}

func (s *Store) apply(ctx context.Context, messages []redis.XMessage) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	for _, message := range messages {
		text := func(name string) string { v, _ := message.Values[name].(string); return v }
		seq, err := strconv.ParseInt(text("seq"), 10, 64)
		if s.epoch == "" {
			s.epoch = text("epoch")
		}
		if err != nil || seq != s.seq+1 || text("epoch") != s.epoch {
			return errMissed
		}
		if text("mark") == "" {
			if id, err := ParseID(text("id")); err == nil {
				s.remove(id)
			}
		} else if id, m, ok := decode(text("id"), text("mark")); ok {
			s.put(id, m)
		}
		s.seq, s.last = seq, message.ID
	}
	return nil
}
