-- Reads events of one entity.
--
-- KEYS[1]  log   KEYS[2]  entity: see append-3.lua
-- ARGV[1]  index of the first in the entity's list   ARGV[2]  index of the last
--
-- Returns {position, sequence, event, position, ...}, lowest first.

local found = {}
for _, position in ipairs(redis.call('LRANGE', KEYS[2], ARGV[1], ARGV[2])) do
  local entry = redis.call('XRANGE', KEYS[1], position, position)[1]
  if entry then
    found[#found + 1] = position
    found[#found + 1] = entry[2][2]
    found[#found + 1] = entry[2][4]
  end
end
return found
