-- Records the result of a message, unless another caller has started or completed it meanwhile.
--
-- KEYS[1]  the message's record: see idempotency-begin-1.lua
-- ARGV[1]  lease   ARGV[2]  the record to write   ARGV[3]  time to live in milliseconds
--
-- Returns 1 when it is written, 0 when not. The same record again returns 1: a client resends after a lost reply.

local stored = redis.call('GET', KEYS[1])
if stored == ARGV[2] then
  return 1
end
if stored and stored ~= 'p' .. ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
