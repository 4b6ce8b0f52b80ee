-- Records that a dead letter is replayed. If its record is gone, a new one has the replay and no reason.
--
-- KEYS[1]  dead: see record-dead-letter-2.lua
-- ARGV[1]  fingerprint   ARGV[2]  how long the key is kept, in ms   ARGV[3]  most replays to remember
--
-- Returns the number of remembered replays.

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local since, replays, record = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+)|([%d,]*)|(.*)$')

local times = { now }
for at in string.gmatch(replays or '', '%d+') do
  if #times < tonumber(ARGV[3]) then
    times[#times + 1] = at
  end
end
redis.call('HSET', KEYS[1], ARGV[1], (since or now) .. '|' .. table.concat(times, ',') .. '|' .. (record or ''))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return #times
