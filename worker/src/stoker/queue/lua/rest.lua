#!lua flags=allow-oom
-- A worker takes no more: the fetch that it has sent behind its wait for work brings nothing from now on.
-- KEYS: meta
-- ARGV: worker
-- Returns 1
redis.call('HSET', meta, resting_field(ARGV[1]), 1)
return 1
