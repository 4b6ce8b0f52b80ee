-- Hands out the next epoch of the stream to a session of a shard, unless the shard is halted.
--
-- KEYS[1]  epoch: the last one handed out   KEYS[2]  state: hash of identity, and `halt:<shard>` or `halt:*`
-- KEYS[3]  sessions: hash by shard of `<epoch> <note>`, of those that have not taken their leave
-- ARGV[1]  shard
--
-- Returns {'ok', epoch, identity, session before} | {'halted', field, halt}. An absent identity or session is null.

for _, field in ipairs({ 'halt:*', 'halt:' .. ARGV[1] }) do
  local halt = redis.call('HGET', KEYS[2], field)
  if halt then
    return { 'halted', field, halt }
  end
end
local before = redis.call('HGET', KEYS[3], ARGV[1])
local epoch = redis.call('INCR', KEYS[1])
-- The note stays until this session writes its own: an answer that is lost loses no suspicion.
local note = before and string.match(before, '^%d+ (.*)$') or ''
redis.call('HSET', KEYS[3], ARGV[1], epoch .. ' ' .. note)
return { 'ok', epoch, redis.call('HGET', KEYS[2], 'identity'), before and note }
