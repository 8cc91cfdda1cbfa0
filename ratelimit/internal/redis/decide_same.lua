-- decide_same: what the decide script does, for the commonest batch: every
-- request takes as many units as the others, of one subject, under the one limit
-- that all have in common. The requests of a subject then need not be told
-- apart, only counted.
--
-- KEYS  the subjects of the batch, each once.
-- ARGV  the time per unit and the tolerance in microseconds, and the units each
--       request takes; then, unless it is one for each, the number of requests
--       of each subject.
--
-- Returns for each subject how many of its requests were admitted (left out
-- where each has one), 0 or the microseconds until the next one would be, and how
-- far its TAT is ahead of now.
local call, format, ceil, floor = redis.call, string.format, math.ceil, math.floor
local t = redis.call('TIME')
local now = (t[1] - 1735689600) * 1e6 + t[2]
local vals = call('MGET', unpack(KEYS))
local tau = tonumber(ARGV[2])
local step, edge = tonumber(ARGV[3]) * tonumber(ARGV[1]), now + tau
local many, out, o = #ARGV > 3, {}, 0
for i = 1, #KEYS do
  local v, x, tail, dirty = vals[i], now, nil, false
  if v then
    x = tonumber(v)
    if not x then
      -- Another plan with more limits shares the key; they are kept.
      local head, rest = string.match(v, '^(%S+)(.*)$')
      x, tail = tonumber(head) or now, rest
    end
    -- So written, what is no number counts as now too.
    if not (x >= now) then
      x = now
    elseif x > edge then
      x, dirty = edge, true
    end
  end
  local n, m, wait = 1, 0, 0
  if many then n = tonumber(ARGV[3 + i]) end
  while m < n do
    wait = x + step - tau - now
    if wait > 0 then break end
    x, m, wait = x + step, m + 1, 0
  end
  if many then
    o = o + 1
    out[o] = m
  end
  out[o + 1], out[o + 2] = ceil(wait), ceil(x - now)
  o = o + 2
  if m > 0 or dirty then
    local far = x
    -- Whole numbers are written a good deal faster as such.
    local text = format(x == floor(x) and '%d' or '%.17g', x)
    if tail then
      text = text .. tail
      for w in string.gmatch(tail, '%S+') do far = math.max(far, tonumber(w) or 0) end
      far = math.min(far, now + 1e16)
    end
    if far > now then
      call('PSETEX', KEYS[i], format('%d', ceil((far - now) / 1000)), text)
    else
      call('DEL', KEYS[i])
    end
  end
end
return out
