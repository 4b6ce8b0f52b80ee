-- Announces that the dead letters of an entity are being replayed: until then its events are held rather than made to
-- follow them. An entity that is not parked is left as it is.
--
-- KEYS[1]  entity: see commit-3.lua
-- ARGV[1]  how long, in ms
--
-- Returns {v, h, s, p, q}. What is absent is nil.

if redis.call('HEXISTS', KEYS[1], 'p') == 1 then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'q', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]))
end
return redis.call('HMGET', KEYS[1], 'v', 'h', 's', 'p', 'q')
