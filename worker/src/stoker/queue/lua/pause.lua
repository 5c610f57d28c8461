#!lua flags=allow-oom
-- Pause a queue (no fetches; running tasks continue) or resume it.
-- KEYS: meta ready suspects scheduled wake events
-- ARGV: paused (0|1)
-- Returns whether it was paused before: 0|1

now_ms()
local before = redis.call('HEXISTS', meta, 'paused')
record(ARGV[1] == '1' and 'paused' or 'resumed', '')
if ARGV[1] == '1' then
  redis.call('HSET', meta, 'paused', real)
else
  redis.call('HDEL', meta, 'paused')
  if redis.call('EXISTS', ready, suspects, scheduled) > 0 then wake_one() end
end
return before
