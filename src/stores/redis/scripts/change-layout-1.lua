-- Puts another layout of the stream on record, unless the record has changed since it was read.
--
-- KEYS[1]  state: hash with the field layout   ARGV[1]  the record as it was read, empty for none   ARGV[2]  the new one
--
-- Returns the record.

local found = redis.call('HGET', KEYS[1], 'layout')
if found and found ~= ARGV[1] then
  return found
end
redis.call('HSET', KEYS[1], 'layout', ARGV[2])
return ARGV[2]
