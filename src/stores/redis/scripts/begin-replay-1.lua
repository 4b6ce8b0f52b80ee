-- Announces that the dead letters of an entity are being replayed, or still are: meanwhile its events are held
-- and do not follow them into the queue. An entity that is not parked, or was parked again, is not changed.
--
-- KEYS[1]  entity: see commit-3.lua
-- ARGV[1]  duration of the lease in ms   ARGV[2]  time of the expected parking in ms; '' for any
-- ARGV[3]  the highest sequence of a published copy; without one the version of an entity without commits
--
-- Returns {v, h, s, p, q, now}: now is the server's time in ms. Absent values are nil.

-- Of two decimal texts the longer one is higher; -1 (nothing applied, in a stream that counts from 0) is the lowest.
local function higher(a, b)
  return a ~= '-1' and (b == '-1' or #a > #b or (#a == #b and a > b))
end

local stored = redis.call('HMGET', KEYS[1], 'v', 'h', 's', 'p', 'q')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parkedAt = stored[4] and string.match(stored[4], '^%d+')
local replay = stored[5]
if parkedAt and (ARGV[2] == '' or ARGV[2] == parkedAt) then
  local published = replay and string.match(replay, '|(-?%d+)$') or ARGV[3]
  if higher(ARGV[3], published) then
    published = ARGV[3]
  end
  replay = string.format('%.0f', now + ARGV[1]) .. '|' .. published
  redis.call('HSET', KEYS[1], 'q', replay)
end
return { stored[1], stored[2], stored[3], stored[4], replay, string.format('%.0f', now) }
