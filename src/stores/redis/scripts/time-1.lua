-- Reads the time of the server that has a key.
--
-- KEYS[1]  any   ARGV  none
--
-- Returns the time in ms.

local time = redis.call('TIME')
return string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
