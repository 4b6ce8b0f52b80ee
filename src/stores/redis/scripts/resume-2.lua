-- Ends every halt of the stream, and makes later epochs higher than a known one.
--
-- KEYS[1]  epoch   KEYS[2]  state: see next-epoch-3.lua
-- ARGV[1]  an epoch that was handed out   ARGV[2]  an identity, for a stream without one
--
-- Returns nothing. Both epochs are below 2^53, so Lua's numbers are exact.

-- If the user may not run one of the commands, the halts stay: no field has this name.
redis.call('HDEL', KEYS[2], '')
local fields = redis.call('HKEYS', KEYS[2])
redis.call('HSETNX', KEYS[2], 'identity', ARGV[2])
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
for _, field in ipairs(fields) do
  if string.sub(field, 1, 5) == 'halt:' then
    redis.call('HDEL', KEYS[2], field)
  end
end
