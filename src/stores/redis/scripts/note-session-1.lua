-- What a session of a shard is working on, or its leave; nothing once a later session has begun.
--
-- KEYS[1]  sessions: see next-epoch-3.lua
-- ARGV[1]  shard   ARGV[2]  epoch   ARGV[3]  note; absent: it takes its leave
--
-- Returns nothing.

local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or string.match(known, '^%d+') ~= ARGV[2] then
  return
end
if ARGV[3] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
