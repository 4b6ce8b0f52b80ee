-- Records why one message is dead-lettered. Beyond the bound, about the oldest record goes.
--
-- KEYS[1]  dead: hash of <fingerprint> -> <time in ms>|<record>
-- ARGV[1]  fingerprint   ARGV[2]  record, opaque   ARGV[3]  how long the key is kept, in ms   ARGV[4]  most records
--
-- Returns 1 when the record is new, 0 when it replaced one.
--
-- A hash has no order. As Redis does for its own eviction, the oldest of a random sample stands for the oldest.

local SAMPLE = 16

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local added = redis.call('HSET', KEYS[1], ARGV[1], now .. '|' .. ARGV[2])
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
return added
