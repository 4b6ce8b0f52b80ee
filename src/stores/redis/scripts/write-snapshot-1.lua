-- Writes a snapshot unless one with a higher version and the same schema exists.
--
-- KEYS[1]  snapshot: hash of v version, c version of the schema, s state
-- ARGV[1]  version   ARGV[2]  version of the schema   ARGV[3]  state
--
-- Returns 1 when it was written, else 0.

local known = redis.call('HMGET', KEYS[1], 'v', 'c')
if known[1] and known[2] == ARGV[2] and tonumber(known[1]) > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'c', ARGV[2], 's', ARGV[3])
return 1
