-- Appends events of one entity together, or finds that they were appended before.
--
-- KEYS[1]  log: stream of all events; the id of an entry is <position>-0, its field e the event
-- KEYS[2]  entity: list of the positions of its events
-- KEYS[3]  ids: hash of an id's field -> <sequence>|<fingerprint>
-- ARGV[1]  expected version; -1 expects at least one event, '' any version
-- ARGV[2] and on, three per event: field of its id, fingerprint of its content, and the event without sequence and position
--
-- Returns {'appended' | 'repeated', version, position} | {'conflict', version} | {'id_conflict'}. The last two write nothing.
--
-- All keys of a stream are in one slot of a cluster: one order for all events needs one place.

local log, entity, ids = KEYS[1], KEYS[2], KEYS[3]
local count = (#ARGV - 1) / 3
local version = redis.call('LLEN', entity)

local known, first, same = 0, nil, true
for i = 1, count do
  local record = redis.call('HGET', ids, ARGV[3 * i - 1])
  if record then
    known = known + 1
    local sequence, fingerprint = string.match(record, '^(%d+)|(.*)$')
    first = first or tonumber(sequence)
    same = same and fingerprint == ARGV[3 * i] and tonumber(sequence) == first + i - 1
  end
end
if known > 0 then
  if known < count or not same then
    return { 'id_conflict' }
  end
  local last = first + count - 1
  return { 'repeated', last, tonumber(redis.call('LINDEX', entity, last - 1)) }
end

if ARGV[1] ~= '' then
  local expected = tonumber(ARGV[1])
  if (expected == -1 and version == 0) or (expected >= 0 and expected ~= version) then
    return { 'conflict', version }
  end
end

-- An event is written in three places. Whether the user may write to the last two is known from Redis 7.0 on.
for _, write in ipairs({ { 'RPUSH', entity, '' }, { 'HSET', ids, '', '' } }) do
  if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(write)) then
    return redis.error_reply("NOPERM this user has no permissions to run the '" .. string.lower(write[1]) .. "' command")
  end
end

local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
local position = newest and tonumber(string.match(newest[1], '^%d+')) or 0
for i = 1, count do
  position, version = position + 1, version + 1
  local id = string.format('%.0f', position)
  redis.call('XADD', log, id .. '-0', 's', string.format('%.0f', version), 'e', ARGV[3 * i + 1])
  redis.call('RPUSH', entity, id)
  redis.call('HSET', ids, ARGV[3 * i - 1], string.format('%.0f', version) .. '|' .. ARGV[3 * i])
end
return { 'appended', version, position }
