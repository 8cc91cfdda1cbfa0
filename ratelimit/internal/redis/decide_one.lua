-- decide_one: what the decide script does, for the common batch in which every
-- request concerns one subject and every plan has one limit. Same KEYS, ARGV and
-- reply; it is about twice as fast.
local ceil, floor = math.ceil, math.floor
local t = redis.call('TIME')
local now = (t[1] - 1735689600) * 1e6 + t[2]
local vals = redis.call('MGET', unpack(KEYS))
local T, tau, a = {}, {}, 2
for p = 1, tonumber(ARGV[1]) do
  T[p], tau[p] = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  a = a + 3
end

local tats, more, dirty, out, o = {}, {}, {}, {}, 0
for j = a, #ARGV, 3 do
  local s, p, c = tonumber(ARGV[j]), tonumber(ARGV[j + 1]), tonumber(ARGV[j + 2])
  local x = tats[s]
  if not x then
    local v = vals[s]
    x = v and tonumber(v)
    if v and not x then
      -- Another plan with more limits shares the key; they are kept.
      local head, tail = string.match(v, '^(%S+)(.*)$')
      x, more[s] = tonumber(head), tail
    end
    x = x or now
  end
  if not (x >= now) then
    x = now
  elseif x > now + tau[p] then
    x = now + tau[p]
    dirty[s] = true
  end
  local wait = 0
  if c >= 0 then
    wait = x + c * T[p] - tau[p] - now
    if wait < 0 then wait = 0 end
  end
  if wait == 0 and c ~= 0 then
    x = x + c * T[p]
    if x < now then x = now end
    dirty[s] = true
  end
  tats[s] = x
  out[o + 1], out[o + 2] = ceil(wait), ceil(x - now)
  o = o + 2
end

for s in pairs(dirty) do
  local far = tats[s]
  local text = string.format(far == floor(far) and '%d' or '%.17g', far)
  if more[s] then
    text = text .. more[s]
    for w in string.gmatch(more[s], '%S+') do far = math.max(far, tonumber(w) or 0) end
    far = math.min(far, now + 1e16)
  end
  if far > now then
    redis.call('PSETEX', KEYS[s], string.format('%d', ceil((far - now) / 1000)), text)
  else
    redis.call('DEL', KEYS[s])
  end
end
return out
