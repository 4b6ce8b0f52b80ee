-- Commits one entity: version, holes, state and idempotency records, all or nothing.
--
-- KEYS[1]  entity: hash of v version, h holes, s state, p parked, c token of the last commit, e<shard> epochs and
--          o<shard> their sessions; while it is parked, d highest sequence among its dead letters, q of its
--          replay: end of the lease in ms, '|' and the highest sequence of a published copy
-- KEYS[2]  ids: hash of #<sequence> -> <expiry>|<payload hash>|<result>, @<id> -> <expiry>|<sequence>|<payload hash>,
--          and ~ -> where the next trim continues
-- KEYS[3]  log: list of the applied events, if they are kept
-- ARGV[1]  token              ARGV[4]  new version       ARGV[7]  state
-- ARGV[2]  expected version   ARGV[5]  new holes         ARGV[8]  how long records are kept, in ms
-- ARGV[3]  expected holes     ARGV[6]  '1': set state    ARGV[9]  records to look at for trimming; '0' for none
-- ARGV[10] version of an entity without one: -1 in a stream that counts from 0, else 0
-- ARGV[11] number of texts for the log, and these texts
-- and then, four per event: sequence, field of its id or '', payload hash, '' or '=' and its result
--
-- Returns {'ok'} | {'ok', v, p, q, now} (still parked) | {'unparked'} (ok, and its parking has ended) | {'duplicate', v, p, q, now} |
-- {'stale', v, h, s, p, q, now} | {'conflict', index, sequence, 1 or 0, index, ...} with 1 if the remembered payload is the same.
-- now is the server's time in ms. Absent values are nil.
--
-- Versions and sequences stay text: Lua rounds numbers when it prints them. Whatever can fail (a key of another type, no
-- memory, a command that the user may not run) fails before the entity is written. Records left behind by such a failure do no harm:
-- they name the next sequence.

-- The commit that passes the last dead letter ends the parking: nothing of the entity is missing any more.
--
-- A token alone proves nothing: the commit was applied only if version and holes are those that it leaves.

local LOGGED = tonumber(ARGV[11])
local FIRST = 12 + LOGGED
local CHUNK = 4000 -- unpack() is bounded by Lua's stack of 8,000

local entity, ids = KEYS[1], KEYS[2]

-- Of two decimal texts the longer one is higher; -1 (nothing applied, in a stream that counts from 0) is the lowest.
local function higher(a, b)
  return a ~= '-1' and (b == '-1' or #a > #b or (#a == #b and a > b))
end

local stored = redis.call('HMGET', entity, 'v', 'h', 'p', 'c', 'd', 'q')
local version, holes, parked, replay = stored[1] or ARGV[10], stored[2] or '', stored[3], stored[6]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if stored[4] == ARGV[1] and version == ARGV[4] and holes == ARGV[5] then
  return { 'duplicate', stored[1], parked, replay, string.format('%.0f', now) }
end
if version ~= ARGV[2] or holes ~= ARGV[3] then
  return { 'stale', stored[1], stored[2], redis.call('HGET', entity, 's'), parked, replay, string.format('%.0f', now) }
end

local asked, askedBy = {}, {}
for at = FIRST, #ARGV, 4 do
  if ARGV[at + 1] ~= '' then
    asked[#asked + 1] = ARGV[at + 1]
    askedBy[#askedBy + 1] = at
  end
end

local conflicts = { 'conflict' }
local function conflict(at, sequence, hash)
  conflicts[#conflicts + 1] = (at - FIRST) / 4
  conflicts[#conflicts + 1] = sequence
  conflicts[#conflicts + 1] = hash == ARGV[at + 2] and 1 or 0
end

local firstUse = {}
for from = 1, #asked, CHUNK do
  local to = math.min(from + CHUNK - 1, #asked)
  local found = redis.call('HMGET', ids, unpack(asked, from, to))
  for i = from, to do
    local at, record, earlier = askedBy[i], found[i - from + 1], firstUse[asked[i]]
    local expiry, sequence, hash
    if record then
      expiry, sequence, hash = string.match(record, '^(%d+)|(%d+)|(.*)$')
    end
    if expiry and tonumber(expiry) > now and sequence ~= ARGV[at] then
      conflict(at, sequence, hash)
    elseif earlier then
      conflict(at, ARGV[earlier], ARGV[earlier + 2])
    else
      firstUse[asked[i]] = at
    end
  end
end
if #conflicts > 1 then
  return conflicts
end

-- The writes begin here. The ids come first: if their key is of another type, nothing has been written yet.
local expiry = string.format('%.0f', now + ARGV[8])
local fields, count = {}, 0
for at = FIRST, #ARGV, 4 do
  fields[count + 1] = '#' .. ARGV[at]
  fields[count + 2] = expiry .. '|' .. ARGV[at + 2] .. '|' .. ARGV[at + 3]
  count = count + 2
  if ARGV[at + 1] ~= '' then
    fields[count + 1] = ARGV[at + 1]
    fields[count + 2] = expiry .. '|' .. ARGV[at] .. '|' .. ARGV[at + 2]
    count = count + 2
  end
  if count >= CHUNK then
    redis.call('HSET', ids, unpack(fields, 1, count))
    count = 0
  end
end
if count > 0 then
  redis.call('HSET', ids, unpack(fields, 1, count))
end
if #ARGV >= FIRST then
  redis.call('PEXPIRE', ids, ARGV[8])
end

-- No record has this name. If the user may not remove fields, it is refused here, and not once the version has moved.
local unparks = parked and not higher(stored[5] or '0', ARGV[4])
if unparks then
  redis.call('HDEL', ids, '')
end

-- Removes the expired ones among the next records; the next trim continues where this one ended.
if ARGV[9] ~= '0' then
  local page = redis.call('HSCAN', ids, redis.call('HGET', ids, '~') or '0', 'COUNT', ARGV[9])
  local records, expired = page[2], {}
  for i = 1, #records, 2 do
    local ends = tonumber(string.match(records[i + 1], '^(%d+)|'))
    if ends and ends <= now then
      expired[#expired + 1] = records[i]
    end
  end
  for from = 1, #expired, CHUNK do
    redis.call('HDEL', ids, unpack(expired, from, math.min(from + CHUNK - 1, #expired)))
  end
  redis.call('HSET', ids, '~', page[1])
end

-- In order, because an entity's commits are.
for from = 12, FIRST - 1, CHUNK do
  redis.call('RPUSH', KEYS[3], unpack(ARGV, from, math.min(from + CHUNK - 1, FIRST - 1)))
end

local changes = { 'v', ARGV[4], 'c', ARGV[1] }
if ARGV[5] ~= holes then
  changes[#changes + 1] = 'h'
  changes[#changes + 1] = ARGV[5]
end
if ARGV[6] == '1' then
  changes[#changes + 1] = 's'
  changes[#changes + 1] = ARGV[7]
end
redis.call('HSET', entity, unpack(changes))
if unparks then
  redis.call('HDEL', entity, 'p', 'd', 'q')
  return { 'unparked' }
end
return parked and { 'ok', ARGV[4], parked, replay, string.format('%.0f', now) } or { 'ok' }
