-- decide: a batch of decisions by the generic cell rate algorithm.
--
-- KEYS  the subjects of the batch, each once; the value of a subject is the
--       theoretical arrival time (TAT) of each of its limits, in microseconds
--       since 2025, by Redis' own clock.
-- ARGV  the number of plans; for each plan the number of its limits and, for
--       each limit, the time per unit and the tolerance in microseconds; then
--       the requests in the order of their arrival:
--         s p c           take c units of subject s under plan p if all limits
--                         allow it; c = 0 looks, c < 0 gives back
--         0 m (s p c)*m   the same for m subjects, all or none
--         -s 1 p c        lease: take up to c units, at most half of what is there
--         -s 2 p c        debit: take c units, available or not
--
-- Returns a flat list, for each request: 0 if it was admitted, else the
-- microseconds until it would be (for a lease the units taken, or the negative
-- time until one could be); then for each limit of each of its subjects how far
-- its TAT is ahead of now.
local ceil, floor, max = math.ceil, math.floor, math.max
local t = redis.call('TIME')
local now = (t[1] - 1735689600) * 1e6 + t[2]
local vals = redis.call('MGET', unpack(KEYS))
local size, a = {}, 2
local units, tols = {}, {}
for p = 1, tonumber(ARGV[1]) do
  local n, T, tau = tonumber(ARGV[a]), {}, {}
  a = a + 1
  for i = 1, n do
    T[i], tau[i] = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
    a = a + 2
  end
  size[p], units[p], tols[p] = n, T, tau
end

local tats, dirty, out, o = {}, {}, {}, 0

-- The TATs of a subject as they are now. One that is further ahead than its
-- limit allows (the clock was set back, or the limit was lowered) is brought
-- back, so that no key is locked for longer than its limit says.
local function state(s, p)
  local x = tats[s]
  if not x then
    x = {}
    if vals[s] then
      local i = 1
      for w in string.gmatch(vals[s], '%S+') do
        x[i] = tonumber(w)
        i = i + 1
      end
    end
    tats[s] = x
  end
  local tau = tols[p]
  for i = 1, size[p] do
    local v = x[i]
    if not (v and v >= now) then
      x[i] = now
    elseif v > now + tau[i] then
      x[i] = now + tau[i]
      dirty[s] = true
    end
  end
  return x
end

local function lacking(x, p, c)
  local T, tau, wait = units[p], tols[p], 0
  for i = 1, size[p] do
    local w = x[i] + c * T[i] - tau[i] - now
    if w > wait then wait = w end
  end
  return wait
end

local function take(s, x, p, c)
  local T = units[p]
  for i = 1, size[p] do x[i] = max(now, x[i] + c * T[i]) end
  dirty[s] = true
end

local function report(x, p)
  for i = 1, size[p] do
    o = o + 1
    out[o] = ceil(x[i] - now)
  end
end

local last = #ARGV
while a <= last do
  local s = tonumber(ARGV[a])
  if s > 0 then
    local p, c = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
    a = a + 3
    local x, wait = state(s, p), 0
    if c >= 0 then wait = lacking(x, p, c) end
    if wait <= 0 and c ~= 0 then take(s, x, p, c) end
    o = o + 1
    out[o] = ceil(wait)
    report(x, p)
  elseif s == 0 then
    local m = tonumber(ARGV[a + 1])
    a = a + 2
    local wait = 0
    for j = a, a + 3 * m - 1, 3 do
      local p = tonumber(ARGV[j + 1])
      wait = max(wait, lacking(state(tonumber(ARGV[j]), p), p, tonumber(ARGV[j + 2])))
    end
    o = o + 1
    out[o] = ceil(wait)
    for j = a, a + 3 * m - 1, 3 do
      local k, p, c = tonumber(ARGV[j]), tonumber(ARGV[j + 1]), tonumber(ARGV[j + 2])
      if wait <= 0 and c ~= 0 then take(k, tats[k], p, c) end
      report(tats[k], p)
    end
    a = a + 3 * m
  else
    s = -s
    local kind, p, c = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
    a = a + 4
    local x = state(s, p)
    local T, tau = units[p], tols[p]
    o = o + 1
    if kind == 1 then
      local g = c
      for i = 1, size[p] do
        g = math.min(g, ceil(floor((tau[i] - (x[i] - now)) / T[i]) / 2))
      end
      if g > 0 then
        take(s, x, p, g)
        out[o] = g
      else
        out[o] = -ceil(lacking(x, p, 1))
      end
    else
      for i = 1, size[p] do x[i] = math.min(now + tau[i], x[i] + c * T[i]) end
      dirty[s] = true
      out[o] = 0
    end
    report(x, p)
  end
end

-- A value lives exactly until it is idle: losing it then changes nothing.
for s in pairs(dirty) do
  local x, far, text = tats[s], now, {}
  for i = 1, #x do
    local v = x[i]
    text[i] = v and string.format(v == floor(v) and '%d' or '%.17g', v) or '0'
    if v and v > far then far = v end
  end
  far = math.min(far, now + 1e16)
  if far > now then
    redis.call('PSETEX', KEYS[s], string.format('%d', ceil((far - now) / 1000)), table.concat(text, ' '))
  else
    redis.call('DEL', KEYS[s])
  end
end
return out
