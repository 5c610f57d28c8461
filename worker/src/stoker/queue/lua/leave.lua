#!lua flags=allow-oom
-- Forget a worker that exits.
-- KEYS: workers beats meta
-- ARGV: worker
-- Returns 1 when it was known, else 0

redis.call('HDEL', meta, resting_field(ARGV[1]))
redis.call('ZREM', beats, ARGV[1])
return redis.call('HDEL', workers, ARGV[1])
