#!lua flags=allow-oom
-- Forget a worker that exits. Its chores go to another at once.
-- KEYS: workers beats meta wake
-- ARGV: worker
-- Returns 1 when it was known, else 0

redis.call('HDEL', meta, resting_field(ARGV[1]))
redis.call('ZREM', beats, ARGV[1])
stop_minding(ARGV[1])
stop_clearing(ARGV[1])
return redis.call('HDEL', workers, ARGV[1])
