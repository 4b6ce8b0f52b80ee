-- Parks an entity, unless a later epoch of the shard owns it or its version has moved. The first reason stays.
--
-- KEYS[1]  entity: see commit-2.lua
-- ARGV[1]  shard   ARGV[2]  epoch   ARGV[3]  expected version   ARGV[4]  why, opaque
--
-- Returns {'ok', p} | {'fenced'} | {'stale', v, h, s, p}. p is the time in ms, '|' and what ARGV[4] was. What is
-- absent is nil.

local function higher(a, b)
  return #a > #b or (#a == #b and a > b)
end

local owner = 'e' .. ARGV[1]
local stored = redis.call('HMGET', KEYS[1], owner, 'v', 'h', 's', 'p')
local known, parked = stored[1] or '0', stored[5]
if higher(known, ARGV[2]) then
  return { 'fenced' }
end
if (stored[2] or '0') ~= ARGV[3] then
  return { 'stale', stored[2], stored[3], stored[4], parked }
end
if not parked then
  local time = redis.call('TIME')
  parked = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) .. '|' .. ARGV[4]
end
redis.call('HSET', KEYS[1], owner, ARGV[2], 'p', parked)
return { 'ok', parked }
