-- Takes the lease of a message for one caller, or returns its result.
--
-- KEYS[1]  the message's record: 'p' and a lease while it is processed; afterwards 'd' without a result, or
--          'r' and the result
-- ARGV[1]  lease, unique per call   ARGV[2]  its duration in milliseconds
--
-- Returns {'started'} | {'in-progress', milliseconds left} | {'done', result or nil}.
-- The same lease again returns 'started': a client resends after a lost reply.

local stored = redis.call('GET', KEYS[1])
if not stored then
  redis.call('SET', KEYS[1], 'p' .. ARGV[1], 'PX', ARGV[2])
  return { 'started' }
end
local kind = string.sub(stored, 1, 1)
if kind == 'r' then
  return { 'done', string.sub(stored, 2) }
end
if kind == 'd' then
  return { 'done' }
end
if stored == 'p' .. ARGV[1] then
  return { 'started' }
end
return { 'in-progress', redis.call('PTTL', KEYS[1]) }
