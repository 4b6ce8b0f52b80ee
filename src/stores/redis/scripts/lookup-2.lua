-- Reads the record of one event, by its sequence or by its id.
--
-- KEYS[1]  entity   KEYS[2]  ids: see commit-3.lua
-- ARGV[1]  '#<sequence>' or the field of the id   ARGV[2]  version of an entity without one: see commit-3.lua
--
-- Returns {payload hash, '' or '=' and the result, sequence} | {} | 'above' for a sequence above the version:
-- the caller's version is wrong.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function read(field)
  local record = redis.call('HGET', KEYS[2], field)
  if not record then
    return nil
  end
  local expiry, first, second = string.match(record, '^(%d+)|([^|]*)|(.*)$')
  if tonumber(expiry) <= now then
    return nil
  end
  return first, second
end

if string.sub(ARGV[1], 1, 1) == '#' then
  local sequence, version = string.sub(ARGV[1], 2), redis.call('HGET', KEYS[1], 'v') or ARGV[2]
  if version == '-1' or #sequence > #version or (#sequence == #version and sequence > version) then
    return 'above'
  end
end

local first, second = read(ARGV[1])
if not first then
  return {}
end
if string.sub(ARGV[1], 1, 1) == '#' then
  return { first, second, string.sub(ARGV[1], 2) }
end
-- The record of an id names its sequence; the result is stored with the sequence, unless that has been used again since.
local hash, result = read('#' .. first)
return { second, hash == second and result or '', first }
