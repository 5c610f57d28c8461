#!lua flags=allow-oom
-- A worker that is done says goodbye, and passes on a wake-up that it may have swallowed.
-- KEYS: workers beats ready wake
-- ARGV: worker
-- Returns 1 when it was known, else 0
local workers, beats, ready, wake = unpack(KEYS)

if redis.call('EXISTS', ready) == 1 then wake_one(wake) end
redis.call('ZREM', beats, ARGV[1])
return redis.call('HDEL', workers, ARGV[1])
