-- Releases a lease.
--
-- KEYS[1]  the message's record: see idempotency-begin-1.lua
-- ARGV[1]  lease
--
-- Returns 1 when it was released, 0 when it had ended.

if redis.call('GET', KEYS[1]) == 'p' .. ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
