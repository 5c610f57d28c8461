#!lua flags=allow-oom
-- A worker that is done says goodbye.
-- KEYS: workers beats
-- ARGV: worker
-- Returns 1 when it was known, else 0
local workers, beats = unpack(KEYS)

redis.call('ZREM', beats, ARGV[1])
return redis.call('HDEL', workers, ARGV[1])
