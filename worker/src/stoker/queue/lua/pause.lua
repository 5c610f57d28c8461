#!lua flags=allow-oom
-- Pause a queue (nothing is fetched; what runs goes on) or let it go on.
-- KEYS: meta ready suspects scheduled wake
-- ARGV: paused (0|1)
-- Returns whether it was paused before: 0|1
local meta, ready, suspects, scheduled, wake = unpack(KEYS)

local before = redis.call('HEXISTS', meta, 'paused')
if ARGV[1] == '1' then
  redis.call('HSET', meta, 'paused', now_ms(meta))
else
  redis.call('HDEL', meta, 'paused')
  if redis.call('EXISTS', ready, suspects, scheduled) > 0 then wake_one(wake) end
end
return before
