-- Takes, renews and releases the lease of a stream's relay, and advances its position.
--
-- KEYS[1]  relay: hash of e epoch, s session of its holder, p position, u end of the lease in ms
-- ARGV[1]  'take' | 'keep' | 'advance' | 'release'
-- ARGV[2]  epoch; ignored for 'take'   ARGV[3]  duration of the lease in ms   ARGV[4]  position, for 'advance'
-- ARGV[5]  session of the holder: random, because a server that lost its tail hands an epoch out twice
--
-- Returns {epoch, position} when it is done; {} when another relay holds the lease.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored = redis.call('HMGET', KEYS[1], 'e', 'p', 'u', 's')
local epoch, position = stored[1] or '0', stored[2] or '0'

if ARGV[1] == 'take' then
  if stored[3] and tonumber(stored[3]) > now then
    return {}
  end
  epoch = string.format('%.0f', epoch + 1)
elseif epoch ~= ARGV[2] or stored[4] ~= ARGV[5] then
  return {}
end
if ARGV[1] == 'advance' then
  position = ARGV[4]
end
local ends = ARGV[1] == 'release' and '0' or string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[1], 'e', epoch, 's', ARGV[5], 'p', position, 'u', ends)
return { epoch, position }
