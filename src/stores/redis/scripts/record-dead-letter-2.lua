-- Records why one message is dead-lettered. Beyond the limit, about the oldest record is removed.
--
-- KEYS[1]  dead: hash of <fingerprint> -> <time in ms>|<times of its replays in ms, with commas>|<record>
-- KEYS[2]  entity: see commit-3.lua; used only if ARGV[5] is given
-- ARGV[1]  fingerprint   ARGV[2]  record, opaque   ARGV[3]  how long the key is kept, in ms   ARGV[4]  most records
-- ARGV[5]  its sequence, if its entity has to wait for it, else ''   ARGV[6]  version of an entity without one: see commit-3.lua
--
-- Returns 1 when the record is new, 0 when it replaced one.
--
-- A parked entity first records its highest dead letter: if the rest fails, that does no harm.
-- A hash has no order. As in Redis' own eviction, the oldest of a random sample is removed.

local SAMPLE = 16

-- Of two decimal texts the longer one is higher; -1 (nothing applied, in a stream that counts from 0) is the lowest.
local function higher(a, b)
  return a ~= '-1' and (b == '-1' or #a > #b or (#a == #b and a > b))
end

if ARGV[5] ~= '' then
  local stored = redis.call('HMGET', KEYS[2], 'p', 'v', 'd')
  if stored[1] and higher(ARGV[5], stored[2] or ARGV[6]) and higher(ARGV[5], stored[3] or '0') then
    redis.call('HSET', KEYS[2], 'd', ARGV[5])
  end
end

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local known = redis.call('HGET', KEYS[1], ARGV[1])
local replays = known and string.match(known, '^%d+|([%d,]*)|') or ''
redis.call('HSET', KEYS[1], ARGV[1], now .. '|' .. replays .. '|' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])

if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) then
  local sample = redis.call('HRANDFIELD', KEYS[1], SAMPLE, 'WITHVALUES')
  local oldest, oldestTime
  for i = 1, #sample, 2 do
    local at = tonumber(string.match(sample[i + 1], '^(%d+)|'))
    if sample[i] ~= ARGV[1] and (not oldest or at < oldestTime) then
      oldest, oldestTime = sample[i], at
    end
  end
  redis.call('HDEL', KEYS[1], oldest)
end
return known and 0 or 1
