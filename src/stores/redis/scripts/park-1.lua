-- Parks an entity, unless a later epoch of the shard or another session with the same epoch owns it, or its version has moved.
-- The first reason stays, unless it is from before a replay: that replay has failed, and ends here.
--
-- KEYS[1]  entity: see commit-3.lua
-- ARGV[1]  shard   ARGV[2]  epoch   ARGV[3]  expected version   ARGV[4]  why, opaque   ARGV[6]  session
-- ARGV[7]  version of an entity without one: see commit-3.lua
-- ARGV[5]  the first sequence to be dead-lettered: the entity stays parked at least until its version has passed it
--
-- Returns {'ok', p} | {'known', p} (it was parked already) | {'fenced'} | {'stale', v, h, s, p, q, now}. p is the time in ms,
-- '|' and the value of ARGV[4]; now is the server's time in ms. Absent values are nil.

local function higher(a, b)
  return #a > #b or (#a == #b and a > b)
end

local owner, session = 'e' .. ARGV[1], 'o' .. ARGV[1]
local stored = redis.call('HMGET', KEYS[1], owner, 'v', 'h', 's', 'p', 'q', 'd', session)
local known, parked = stored[1] or '0', stored[5]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
if higher(known, ARGV[2]) or (known == ARGV[2] and stored[8] ~= ARGV[6]) then
  return { 'fenced' }
end
if (stored[2] or ARGV[7]) ~= ARGV[3] then
  return { 'stale', stored[2], stored[3], stored[4], parked, stored[6], now }
end
if not parked or stored[6] then
  parked = now .. '|' .. ARGV[4]
end
local awaited = stored[7] or '0'
if higher(ARGV[5], awaited) then
  awaited = ARGV[5]
end
-- If the user may not remove fields, it is refused before anything is written: no field has this name.
if stored[6] then
  redis.call('HDEL', KEYS[1], '')
end
redis.call('HSET', KEYS[1], owner, ARGV[2], session, ARGV[6], 'p', parked, 'd', awaited)
if stored[6] then
  redis.call('HDEL', KEYS[1], 'q')
end
return { stored[5] and 'known' or 'ok', parked }
