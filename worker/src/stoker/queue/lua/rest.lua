#!lua flags=allow-oom
-- Make fetches that a worker has sent behind a wait for work return nothing.
-- KEYS: meta
-- ARGV: worker
-- Returns 1
redis.call('HSET', meta, resting_field(ARGV[1]), 1)
return 1
