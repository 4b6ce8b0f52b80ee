-- Puts the version of an event store's layout on record, unless there is one.
--
-- KEYS[1]  layout: hash of version   ARGV[1]  the version
--
-- Returns the version on record.

local found = redis.call('HMGET', KEYS[1], 'version')[1]
if found then
  return found
end
redis.call('HSET', KEYS[1], 'version', ARGV[1])
return ARGV[1]
