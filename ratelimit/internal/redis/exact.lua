-- exact: one decision over meters that need more than a number: exact logs
-- ('w'), calendar quotas ('q'), and limits of the generic cell rate algorithm
-- beside them ('g').
--
-- KEYS  one per meter.
-- ARGV  'take', 'refund' or 'debit'; the units; the time of the admission to
--       refund; then for each meter
--         'g' T tau          time per unit, tolerance
--         'w' L W            units per window, its length
--         'q' N b0 b1 b2 b3  units per period; the starts of the last, this and
--                            the next period as the caller sees them, and the
--                            end of the next
--       and to debit, the units of each meter: they are taken as far as there
--       are any.
--
-- Times are microseconds since 2025, by Redis' own clock. Returns the time to
-- wait (0: admitted), the time of the decision, and for each meter the units
-- that remain, the time until there are more, and 1 if it is a reason for the
-- refusal.
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local t = redis.call('TIME')
local wall = (t[1] - 1735689600) * 1e6 + t[2]
local now = wall
local op, c, at = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local meters, a = {}, 4
for i = 1, #KEYS do
  local m = { kind = ARGV[a], n = tonumber(ARGV[a + 1]), len = tonumber(ARGV[a + 2]) }
  if m.kind == 'q' then
    m.b = { m.len, tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]) }
    a = a + 6
  else
    a = a + 3
  end
  m.c = c
  if m.kind == 'w' then
    -- A log's time never goes back.
    local newest = redis.call('LINDEX', KEYS[i], -1)
    if newest then now = max(now, tonumber(newest)) end
  end
  meters[i] = m
end

if op == 'debit' then
  for i, m in ipairs(meters) do m.c = tonumber(ARGV[a + i - 1]) end
end

local function period(b, when)
  for i = 3, 1, -1 do
    if when >= b[i] then return i end
  end
  return 1
end

local wait = 0
for i, m in ipairs(meters) do
  local key, w = KEYS[i], 0
  if m.kind == 'g' then
    local x = tonumber(redis.call('GET', key) or now)
    if not (x and x >= now) then x = now end
    m.tat = min(x, now + m.len)
    w = m.tat + m.c * m.n - m.len - now
  elseif m.kind == 'w' then
    local oldest = redis.call('LINDEX', key, 0)
    while oldest and tonumber(oldest) <= now - m.len do
      redis.call('LPOP', key)
      oldest = redis.call('LINDEX', key, 0)
    end
    m.used = redis.call('LLEN', key)
    local over = m.used + m.c - m.n
    if over > 0 and op == 'take' then w = tonumber(redis.call('LINDEX', key, over - 1)) + m.len - now end
  else
    local p = period(m.b, wall)
    m.start, m.stop, m.used = m.b[p], m.b[p + 1], 0
    local v = redis.call('GET', key)
    if v then
      local start, used = string.match(v, '^(%S+) (%S+)$')
      if tonumber(start) == m.start then m.used = tonumber(used) end
    end
    if m.used + m.c > m.n then w = m.stop - wall end
  end
  m.over = w > 0
  if w > wait then wait = w end
end

local sign = 0
if op == 'refund' then
  wait, sign = 0, -1
elseif op == 'debit' then
  wait, sign = 0, 1
elseif wait <= 0 and c > 0 then
  sign = 1
end

local out = { ceil(wait), floor(now) }
for i, m in ipairs(meters) do
  local key, remaining, reset = KEYS[i], 0, 0
  if m.kind == 'g' then
    if sign ~= 0 then
      m.tat = max(now, min(now + m.len, m.tat + sign * m.c * m.n))
      if m.tat > now then
        redis.call('SET', key, string.format('%.17g', m.tat), 'PX', ceil((m.tat - now) / 1000))
      else
        redis.call('DEL', key)
      end
    end
    local debt = m.tat - now
    remaining = floor((m.len - debt) / m.n)
    if debt > 0 then reset = debt - (m.len - (remaining + 1) * m.n) end
  elseif m.kind == 'w' then
    if sign > 0 then
      local unit, left = string.format('%.17g', now), min(m.c, max(0, m.n - m.used))
      m.used = m.used + left
      while left > 0 do
        local chunk = {}
        for j = 1, min(left, 1000) do chunk[j] = unit end
        redis.call('RPUSH', key, unpack(chunk))
        left = left - #chunk
      end
      redis.call('PEXPIRE', key, ceil(m.len / 1000))
    elseif sign < 0 then
      -- Only the units of that admission: removing others in their stead would
      -- let the window admit too many.
      m.used = m.used - redis.call('LREM', key, -c, string.format('%.17g', at))
    end
    remaining = max(0, m.n - m.used)
    local oldest = redis.call('LINDEX', key, 0)
    if oldest then reset = tonumber(oldest) + m.len - now end
  else
    -- Units of a period that is over are not given back to the next one.
    if sign > 0 or (sign < 0 and at >= m.start) then
      m.used = max(0, min(m.n, m.used + sign * m.c))
      redis.call('SET', key, string.format('%.17g %.17g', m.start, m.used), 'PX', ceil((m.stop - wall) / 1000) + 1000)
    end
    remaining = max(0, m.n - m.used)
    if m.used > 0 then reset = m.stop - wall end
  end
  out[#out + 1] = remaining
  out[#out + 1] = max(0, ceil(reset))
  out[#out + 1] = (m.over and wait > 0) and 1 or 0
end
return out
