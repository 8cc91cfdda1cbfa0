package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/pythopus/tentagate/rediscache/internal/epoch"
)

// A full Redis that evicts nothing refuses scripts that write. Redis 7 has a
// way out for scripts that matter and are small; older ones do not know it, so
// it is tried second.
const evenIfFull = "#!lua flags=allow-oom\n"

type script struct{ plain, full *redis.Script }

func newScript(src string) script {
	return script{redis.NewScript(src), redis.NewScript(evenIfFull + src)}
}

func (s script) run(ctx context.Context, c redis.UniversalClient, keys []string, args ...any) *redis.Cmd {
	cmd := s.plain.Run(ctx, c, keys, args...)
	if err := cmd.Err(); err != nil && strings.Contains(err.Error(), "OOM ") {
		return s.full.Run(ctx, c, keys, args...)
	}
	return cmd
}

// appendLog gives marks a new epoch, later than all before, and tells the
// others. Numbers are written out, because Lua's are rounded when they become
// text. KEYS: the log, the generation; ARGV: the caller's clock, the channel,
// the caller's name, the life of the log in µs, marks…
var appendLog = newScript(`
local function text(n) return string.format('%.0f', n) end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local prev = top[2] and tonumber(top[2]) or 0
local at = text(math.max(prev + 1, now, tonumber(ARGV[1]) + 1))
for i = 5, #ARGV do redis.call('ZADD', KEYS[1], at, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - ARGV[4]))
redis.call('PUBLISH', ARGV[2], text(prev) .. ' ' .. at .. ' ' .. ARGV[3] .. ' ' .. table.concat(ARGV, ' ', 5))
return {text(prev), at}
`)

// append enters marks in the log. It returns the epoch that they have there and
// the one before it.
func (e *Epochs) append(ctx context.Context, marks []epoch.Mark, clock uint64) (prev, at uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	args := make([]any, 0, len(marks)+4)
	args = append(args, clock, e.channel(), e.name, logLife.Microseconds())
	for _, m := range marks {
		args = append(args, m.String())
	}
	reply, err := appendLog.run(ctx, e.o.Client, []string{e.logKey(), e.generationKey()}, args...).StringSlice()
	if err != nil {
		return 0, 0, err
	}
	if len(reply) != 2 {
		return 0, 0, fmt.Errorf("the log answered %q", reply)
	}
	if prev, err = strconv.ParseUint(reply[0], 10, 64); err != nil {
		return 0, 0, err
	}
	at, err = strconv.ParseUint(reply[1], 10, 64)
	return prev, at, err
}

// readLog returns what is later than ARGV[1]. It begins a log where there is
// none, and keeps the log's end no lower than the clock of any gateway, so that
// what comes next is later everywhere. The generation is a hash: the name of this
// log, the epoch at which it was begun, and how often it was completed since.
// KEYS: the log, the generation; ARGV: since, the caller's clock, the most
// entries, a name for a new generation, the life of the log in ms.
var readLog = newScript(`
local function text(n) return string.format('%.0f', n) end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local of = redis.call('HMGET', KEYS[2], 'name', 'birth', 'restored')
local created = '0'
if not of[1] or not of[2] or not top[2] then
	created = '1'
	local birth = text(math.max(now, top[2] and tonumber(top[2]) or 0, tonumber(ARGV[2])))
	of = {ARGV[4], birth, '0'}
	redis.call('DEL', KEYS[2])
	redis.call('HSET', KEYS[2], 'name', of[1], 'birth', of[2], 'restored', of[3])
	if not top[2] then redis.call('ZADD', KEYS[1], text(now), 'clock') end
end
top = top[2] and tonumber(top[2]) or 0
if top < tonumber(ARGV[2]) then redis.call('ZADD', KEYS[1], text(ARGV[2]), 'clock') end
local life = tonumber(ARGV[5])
if redis.call('PTTL', KEYS[1]) < life / 2 then redis.call('PEXPIRE', KEYS[1], life) end
if redis.call('PTTL', KEYS[2]) < life / 2 then redis.call('PEXPIRE', KEYS[2], life) end
local info = redis.pcall('INFO', 'replication')
local server = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or ''
local news = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
return {text(top), of[2], of[3] or '0', of[1], server, created, news}
`)

// reading is a part of the log.
type reading struct {
	top uint64
	// generation and server tell which log this is. The server's name changes
	// with a failover, which may lose the end of the log.
	generation, server string
	// birth is when the log was begun. Nothing is known of before.
	birth uint64
	// restored counts how often gateways gave the log back what it had lost.
	restored uint64
	created  bool
	learned  []learned
	count    int
}

// learned are the marks of one epoch.
type learned struct {
	epoch uint64
	marks []epoch.Mark
}

// read returns the log after since.
func (e *Epochs) read(ctx context.Context, since uint64) (*reading, error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	reply, err := readLog.run(ctx, e.o.Client, []string{e.logKey(), e.generationKey()},
		since, e.table.Now(), page, rand.Text(), logLife.Milliseconds()).Slice()
	if err != nil {
		if strings.HasPrefix(err.Error(), "WRONGTYPE") {
			// Somebody else's value in its place.
			_ = e.o.Client.Unlink(ctx, e.logKey(), e.generationKey()).Err()
		}
		return nil, err
	}
	return parseReading(reply)
}

func parseReading(reply []any) (*reading, error) {
	if len(reply) != 7 {
		return nil, fmt.Errorf("the log answered %d parts, not 7", len(reply))
	}
	r := &reading{}
	var texts [6]string
	for i := range texts {
		s, ok := reply[i].(string)
		if !ok {
			return nil, fmt.Errorf("the log answered %T, not a text", reply[i])
		}
		texts[i] = s
	}
	for i, number := range []*uint64{&r.top, &r.birth, &r.restored} {
		var err error
		if *number, err = strconv.ParseUint(texts[i], 10, 64); err != nil {
			return nil, err
		}
	}
	r.generation, r.server, r.created = texts[3], texts[4], texts[5] == "1"
	news, ok := reply[6].([]any)
	if !ok {
		return nil, fmt.Errorf("the log answered %T, not a list", reply[6])
	}
	r.count = len(news) / 2
	for i := 0; i+1 < len(news); i += 2 {
		name, ok1 := news[i].(string)
		score, ok2 := news[i+1].(string)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("the log answered %T and %T, not texts", news[i], news[i+1])
		}
		at, err := parseEpoch(score)
		if err != nil {
			return nil, err
		}
		if n := len(r.learned); n == 0 || r.learned[n-1].epoch != at {
			r.learned = append(r.learned, learned{epoch: at})
		}
		if m, ok := epoch.ParseMark(name); ok {
			last := &r.learned[len(r.learned)-1]
			last.marks = append(last.marks, m)
		}
	}
	return r, nil
}

// parseEpoch reads a score of the sorted set, which is a floating-point number.
func parseEpoch(s string) (uint64, error) {
	if v, err := strconv.ParseUint(s, 10, 64); err == nil {
		return v, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f >= 1<<63 {
		return 0, fmt.Errorf("%q is no epoch", s)
	}
	return uint64(f), nil
}

// restoreLog enters marks with the epochs that they had, unless the log has
// later ones. Who has read the log already may have passed these epochs by, so
// the generation says that there is more. KEYS: the log, the generation; ARGV:
// epoch, mark, epoch, mark…
var restoreLog = newScript(`
local news = 0
for i = 1, #ARGV, 2 do
	local has = redis.call('ZSCORE', KEYS[1], ARGV[i + 1])
	if not has or tonumber(has) < tonumber(ARGV[i]) then
		redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
		news = news + 1
	end
end
if news > 0 then redis.call('HINCRBY', KEYS[2], 'restored', 1) end
return news
`)

// messageRestored is published when the log got back what it had lost.
const messageRestored = "restored"

// restore gives the log what is known here.
func (e *Epochs) restore(ctx context.Context) error {
	since := uint64(0)
	if now := e.table.Now(); now > uint64(logLife.Microseconds()) {
		since = now - uint64(logLife.Microseconds())
	}
	var args []any
	var err error
	news := 0
	flush := func() {
		if err == nil && len(args) > 0 {
			ctx, cancel := context.WithTimeout(ctx, syncTimeout)
			defer cancel()
			var n int
			n, err = restoreLog.run(ctx, e.o.Client, []string{e.logKey(), e.generationKey()}, args...).Int()
			news += n
		}
		args = args[:0]
	}
	e.table.Each(since, func(m epoch.Mark, at uint64) {
		args = append(args, at, m.String())
		if len(args) >= 2*batch {
			flush()
		}
	})
	flush()
	if news > 0 && err == nil {
		// Only a hint: the others see it when they look next.
		_ = e.o.Client.Publish(ctx, e.channel(), messageRestored).Err()
	}
	return err
}

// parseMessage reads what appendLog publishes.
func parseMessage(s string) (prev, at uint64, from string, marks []epoch.Mark, ok bool) {
	parts := strings.Fields(s)
	if len(parts) < 4 {
		return 0, 0, "", nil, false
	}
	var err1, err2 error
	prev, err1 = strconv.ParseUint(parts[0], 10, 64)
	at, err2 = strconv.ParseUint(parts[1], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, 0, "", nil, false
	}
	for _, part := range parts[3:] {
		m, known := epoch.ParseMark(part)
		if !known {
			return 0, 0, "", nil, false
		}
		marks = append(marks, m)
	}
	return prev, at, parts[2], marks, true
}
