-- Claims a message for one caller, or says what became of it.
--
-- KEYS[1]  the message's record: 'p' and a lease while it is processed; 'd' when it was, with no result;
--          'r' and the result when there was one
-- ARGV[1]  lease, unique per call   ARGV[2]  how long it lasts, in milliseconds
--
-- Returns {'started'} | {'in-progress', milliseconds left} | {'done', result or nil}.
-- The same lease again answers 'started': a client resends when the reply was lost.

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
