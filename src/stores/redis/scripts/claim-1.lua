-- Records that an epoch of a shard owns the entity, and reads the entity. A lower epoch is refused. Of two sessions with
-- the same epoch (the store lost its count in between) the last one to claim owns it.
--
-- KEYS[1]  entity: see commit-3.lua
-- ARGV[1]  shard   ARGV[2]  epoch   ARGV[3]  session
--
-- Returns {'ok', v, h, s, p, q, now} | {'fenced'}. now is the server's time in ms. Absent values are nil.
--
-- Epochs stay decimal text, of which the longer one is higher: Lua rounds numbers when it prints them.

local function higher(a, b)
  return #a > #b or (#a == #b and a > b)
end

local owner, session = 'e' .. ARGV[1], 'o' .. ARGV[1]
local stored = redis.call('HMGET', KEYS[1], owner, 'v', 'h', 's', 'p', 'q', session)
local known = stored[1] or '0'
if higher(known, ARGV[2]) then
  return { 'fenced' }
end
if known ~= ARGV[2] or stored[7] ~= ARGV[3] then
  redis.call('HSET', KEYS[1], owner, ARGV[2], session, ARGV[3])
end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
return { 'ok', stored[2], stored[3], stored[4], stored[5], stored[6], now }
