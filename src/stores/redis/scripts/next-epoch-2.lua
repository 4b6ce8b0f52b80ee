-- Hands out the next epoch of the stream to a session of a shard, unless the shard is halted.
--
-- KEYS[1]  epoch: the last one handed out   KEYS[2]  state: hash of identity, and `halt:<shard>` or `halt:*`
-- ARGV[1]  shard
--
-- Returns {'ok', epoch, identity} | {'halted', field, halt}. An absent identity is nil.

for _, field in ipairs({ 'halt:*', 'halt:' .. ARGV[1] }) do
  local halt = redis.call('HGET', KEYS[2], field)
  if halt then
    return { 'halted', field, halt }
  end
end
return { 'ok', redis.call('INCR', KEYS[1]), redis.call('HGET', KEYS[2], 'identity') }
