-- Notes that a dead letter is replayed. Where its record is gone, there is one again with the replay and no reason.
--
-- KEYS[1]  dead: see record-dead-letter-2.lua
-- ARGV[1]  fingerprint   ARGV[2]  how long the key is kept, in ms   ARGV[3]  most replays that are remembered
--
-- Returns how often it was replayed, as far as that is remembered.

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
