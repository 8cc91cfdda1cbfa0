package replog

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// script is a Lua script that also runs on a Redis that is full. Such a Redis
// refuses scripts that write, unless they are flagged; Redis 6 does not know the
// flag, so the flagged variant is tried second.
type script struct{ plain, flagged *redis.Script }

func newScript(src string) script {
	src = common + src
	return script{redis.NewScript(src), redis.NewScript("#!lua flags=allow-oom\n" + src)}
}

func (s script) run(ctx context.Context, c redis.UniversalClient, keys []string, args ...any) *redis.Cmd {
	cmd := s.plain.Run(ctx, c, keys, args...)
	if err := cmd.Err(); err != nil && strings.Contains(err.Error(), "OOM ") {
		return s.flagged.Run(ctx, c, keys, args...)
	}
	return cmd
}

// common begins every script. KEYS are the log, the state and, in a log with
// values, the expiries. Numbers are written out, because Lua
// rounds large ones when they become text.
const common = `
local function text(n) return string.format('%.0f', n) end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local prev = top[2] and tonumber(top[2]) or 0
-- next_position is later than all before and than the caller's clock.
local function next_position(clock) return text(math.max(prev + 1, now, tonumber(clock) + 1)) end
-- publish is only a hint: the log is read again anyway, and a user may lack the permission.
local function publish(channel, at, writer, changes)
	redis.pcall('PUBLISH', channel, text(prev) .. ' ' .. at .. ' ' .. writer .. ' ' .. table.concat(changes, ' '))
end
-- merge takes the larger value and the larger expiry.
local function merge(old, value, expires)
	local v, e = string.match(old or '', '^(%d+) (%d+)$')
	return text(math.max(tonumber(v or 0), tonumber(value))), text(math.max(tonumber(e or 0), tonumber(expires)))
end
`

// appendKeys gives keys a new position. ARGV: the caller's clock, the channel,
// the writer, the life of the log in µs, keys…
var appendKeys = newScript(`
local at = next_position(ARGV[1])
local changes = {}
for i = 5, #ARGV do
	redis.call('ZADD', KEYS[1], at, ARGV[i])
	changes[#changes + 1] = ARGV[i]
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - ARGV[4]))
publish(ARGV[2], at, ARGV[3], changes)
return {text(prev), at}
`)

// appendValues does the same in a log with values. What has expired is removed a
// minute later than due, because clocks differ. ARGV: the caller's clock, the
// channel, the writer, the life of the log in µs, (key, value, expires)…
var appendValues = newScript(`
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', text(now / 1000 - 60000), 'LIMIT', 0, 100)) do
	redis.call('HDEL', KEYS[2], key)
	redis.call('ZREM', KEYS[1], key)
	redis.call('ZREM', KEYS[3], key)
end
local at = next_position(ARGV[1])
local changes = {}
for i = 5, #ARGV, 3 do
	local key = ARGV[i]
	local value, expires = merge(redis.call('HGET', KEYS[2], key), ARGV[i + 1], ARGV[i + 2])
	redis.call('HSET', KEYS[2], key, value .. ' ' .. expires)
	redis.call('ZADD', KEYS[3], expires, key)
	redis.call('ZADD', KEYS[1], at, key)
	changes[#changes + 1] = key .. ':' .. value .. ':' .. expires
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - ARGV[4]))
publish(ARGV[2], at, ARGV[3], changes)
return {text(prev), at}
`)

// removeKey removes a key from a log with values. Its expiry stays, so that the
// removal is forgotten when what was removed would have been. ARGV: the caller's
// clock, the channel, the writer, the key. It returns the position of the
// removal, 0 if there was no such key.
var removeKey = newScript(`
if redis.call('HDEL', KEYS[2], ARGV[4]) == 0 then return {text(prev), '0'} end
local at = next_position(ARGV[1])
local expires = redis.call('ZSCORE', KEYS[3], ARGV[4]) or '0'
redis.call('ZADD', KEYS[1], at, ARGV[4])
publish(ARGV[2], at, ARGV[3], {ARGV[4] .. ':-:' .. text(tonumber(expires))})
return {text(prev), at}
`)

// readLog returns what is later than ARGV[1]. It begins a log where there is
// none, and keeps its last position no lower than the clock of any gateway, so
// that the next one is later everywhere. ARGV: since, the caller's clock, the
// most keys, a name for a new log, the life of the log in ms, 1 if it has values.
var readLog = newScript(`
local state = redis.call('HMGET', KEYS[2], 'name', 'birth', 'restored')
local created = '0'
if not state[1] or not state[2] or not top[2] then
	created = '1'
	state = {ARGV[4], text(math.max(now, prev, tonumber(ARGV[2]))), '0'}
	redis.call('HSET', KEYS[2], 'name', state[1], 'birth', state[2], 'restored', state[3])
	if not top[2] then redis.call('ZADD', KEYS[1], text(now), 'clock') end
end
if prev < tonumber(ARGV[2]) then redis.call('ZADD', KEYS[1], text(ARGV[2]), 'clock') end
local life = tonumber(ARGV[5])
for _, key in ipairs(KEYS) do
	if redis.call('PTTL', key) < life / 2 then redis.call('PEXPIRE', key, life) end
end
local info = redis.pcall('INFO', 'replication')
local server = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or ''
local news = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local values = {}
if ARGV[6] == '1' and #news > 0 then
	local keys = {}
	for i = 1, #news, 2 do keys[#keys + 1] = news[i] end
	values = redis.call('HMGET', KEYS[2], unpack(keys))
	for i, key in ipairs(keys) do
		if not values[i] then values[i] = '- ' .. text(tonumber(redis.call('ZSCORE', KEYS[3], key) or '0')) end
	end
end
return {text(prev), state[2], state[3] or '0', state[1], server, created, news, values}
`)

// restoreKeys enters keys with the positions that they had, unless the log has
// later ones. Who has read the log may have passed these positions by, so
// `restored` says that there is more. ARGV: (position, key)…
var restoreKeys = newScript(`
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

// restoreValues does the same in a log with values. Of a removal and a value the
// later one counts; two values are merged. A position without a value is a
// removal, unless it is the value's own: then the value was lost. ARGV: (position, key, value or -,
// expires)…
var restoreValues = newScript(`
local news = 0
for i = 1, #ARGV, 4 do
	local at, key, value, expires = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
	local has = tonumber(redis.call('ZSCORE', KEYS[1], key) or -1)
	local old = redis.call('HGET', KEYS[2], key)
	local later = tonumber(at) > has
	local changed = later
	if value == '-' then
		if later then redis.call('HDEL', KEYS[2], key) end
	elseif old or tonumber(at) >= has then
		value, expires = merge(old, value, expires)
		local new = value .. ' ' .. expires
		changed = later or new ~= old
		if changed then redis.call('HSET', KEYS[2], key, new) end
	end
	if changed then
		redis.call('ZADD', KEYS[1], text(math.max(tonumber(at), has)), key)
		redis.call('ZADD', KEYS[3], expires, key)
		news = news + 1
	end
end
if news > 0 then redis.call('HINCRBY', KEYS[2], 'restored', 1) end
return news
`)
