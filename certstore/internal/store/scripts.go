package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Every script begins with this. KEYS[1] is the register: a hash with the
// identifier of each key that entries are encrypted with. ARGV[1] is the number
// of keys that the caller has, followed by their identifiers, its first key
// first. A caller without a key that is in use must not act: it would not see
// what is there.
const checkKeys = `
local keys = tonumber(ARGV[1])
local known = {}
for i = 2, keys + 1 do known[ARGV[i]] = true end
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
	if not known[id] then return redis.error_reply('WRONGKEY ' .. id) end
end
local a = keys + 2
`

// What scripts that change entries have in common. After the identifiers come
// the number of lock keys (0: no lock protects the entry), the token, the fence
// and the lease of the lock, and the number of directories from the root to the
// entry. Then KEYS has the lock keys, and for each encryption key the entry and
// the directories; ARGV has, for each encryption key, the field of the entry or
// directory in each of them.
const changeEntries = checkKeys + `
local locks, token, fence, lease, depth = tonumber(ARGV[a]), ARGV[a+1], tonumber(ARGV[a+2]), ARGV[a+3], tonumber(ARGV[a+4])
a = a + 5
local function entry(k) return KEYS[2 + locks + (k - 1) * (depth + 1)] end
local function directory(k, i) return KEYS[2 + locks + (k - 1) * (depth + 1) + i] end
local function field(k, i) return ARGV[a + (k - 1) * depth + i - 1] end
if locks > 0 then
	local absent = false
	for i = 2, locks + 1 do
		local holder = redis.call('GET', KEYS[i])
		if not holder then absent = true
		elseif holder ~= token then return redis.error_reply('FENCED lock lost') end
	end
	-- The lease may have ended and been renewed meanwhile, so the token alone does not
	-- tell whether another held the lock in between. Its fence does.
	for k = 1, keys do
		local written = redis.call('HGET', entry(k), 'f')
		if written and tonumber(written) > fence then return redis.error_reply('FENCED lock lost') end
	end
	-- The lease ended. If nobody has written since, nobody was wronged.
	if absent then
		for i = 2, locks + 1 do redis.call('SET', KEYS[i], token, 'PX', lease) end
	end
end
-- An entry goes, and with it the directories that it leaves empty.
local function remove(k)
	local removed = redis.call('DEL', entry(k))
	for i = depth, 1, -1 do
		redis.call('HDEL', directory(k, i), field(k, i))
		if redis.call('EXISTS', directory(k, i)) == 1 then break end
	end
	return removed
end
`

var (
	// putScript writes an entry. After the fields come the sealed value, what the
	// entry must hold now (empty: anything), and the sealed names for the
	// directories of the first key.
	putScript = redis.NewScript(changeEntries + `
local b = a + keys * depth
if ARGV[b+1] ~= '' then
	local current = false
	for k = 1, keys do current = current or redis.call('HGET', entry(k), 'd') end
	if current ~= ARGV[b+1] then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[2], 1)
if locks > 0 then
	redis.call('HSET', entry(1), 'd', ARGV[b], 'f', string.format('%.0f', fence))
else
	for k = 2, keys do
		local f = redis.call('HGET', entry(k), 'f')
		if f then redis.call('HSET', entry(1), 'f', f) end
	end
	redis.call('HSET', entry(1), 'd', ARGV[b])
end
for i = 1, depth do redis.call('HSET', directory(1, i), field(1, i), ARGV[b + 1 + i]) end
for k = 2, keys do remove(k) end
return 1
`)

	// removeScript deletes an entry.
	removeScript = redis.NewScript(changeEntries + `
local removed = 0
for k = 1, keys do removed = removed + remove(k) end
return removed
`)

	// getScript returns the number of the encryption key and the sealed value.
	// KEYS has the entry for each key.
	getScript = redis.NewScript(checkKeys + `
for k = 1, keys do
	local value = redis.call('HGET', KEYS[1 + k], 'd')
	if value then return {k, value} end
end
return false
`)

	// existsScript returns how many of the further KEYS there are.
	existsScript = redis.NewScript(checkKeys + `
local n = 0
for i = 2, #KEYS do n = n + redis.call('EXISTS', KEYS[i]) end
return n
`)

	// listScript returns the children of a directory for each encryption key. KEYS
	// has the directory for each key.
	listScript = redis.NewScript(checkKeys + `
local children = {}
for k = 1, keys do children[k] = redis.call('HGETALL', KEYS[1 + k]) end
return children
`)

	// lockScript takes a lock: it returns its fence, or nothing and the milliseconds
	// for which another holds it. KEYS has the last fence and the lock for each
	// encryption key; ARGV the token and the lease. The fence follows the clock, so
	// that it rises even if the last one is lost.
	lockScript = redis.NewScript(checkKeys + `
for i = 3, #KEYS do
	local holder = redis.call('GET', KEYS[i])
	if holder and holder ~= ARGV[a] then return {'', redis.call('PTTL', KEYS[i])} end
end
local now = redis.call('TIME')
local fence = now[1] * 1000 + math.floor(now[2] / 1000)
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
if fence <= last then fence = last + 1 end
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[2], text)
for i = 3, #KEYS do redis.call('SET', KEYS[i], ARGV[a], 'PX', ARGV[a+1]) end
return {text, 0}
`)

	// renewScript renews a lease, also one that ended if nobody has taken the lock.
	// It returns 0 if somebody has. KEYS has the lock for each encryption key; ARGV
	// the token and the lease.
	renewScript = redis.NewScript(checkKeys + `
for i = 2, #KEYS do
	local holder = redis.call('GET', KEYS[i])
	if holder and holder ~= ARGV[a] then return 0 end
end
for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[a], 'PX', ARGV[a+1]) end
return 1
`)

	// unlockScript gives a lock up if it is still held. KEYS has the lock for each
	// encryption key; ARGV the token.
	unlockScript = redis.NewScript(checkKeys + `
for i = 2, #KEYS do
	if redis.call('GET', KEYS[i]) == ARGV[a] then redis.call('DEL', KEYS[i]) end
end
return 1
`)

	// forgetScript takes an encryption key out of the register if its root directory
	// is gone, and reports whether it did. KEYS has the root directory, ARGV the
	// identifier.
	forgetScript = redis.NewScript(checkKeys + `
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HDEL', KEYS[1], ARGV[a])
return 1
`)
)

// explain turns the error replies of the scripts into errors of this package.
func explain(err error) error {
	reply, ok := errors.AsType[redis.Error](err)
	if !ok {
		return err
	}
	text := strings.TrimPrefix(reply.Error(), "ERR ") // of servers that take no code but their own
	if id, ok := strings.CutPrefix(text, "WRONGKEY "); ok {
		id, _, _ = strings.Cut(id, " ")
		return fmt.Errorf("%w (ID %s): configure that key too, after the first one", ErrWrongKey, id)
	}
	if strings.HasPrefix(text, "FENCED") {
		return ErrFenced
	}
	return err
}
