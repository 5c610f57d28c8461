#!lua flags=allow-oom
-- Wake another worker if a task is ready: the caller will neither fetch nor watch the rate limit.
-- KEYS: ready suspects meta wake
-- ARGV: none
-- Returns 0 when there was no work

redis.call('HDEL', meta, 'watcher', 'watch_until')
local there = redis.call('EXISTS', ready, suspects)
if there > 0 then wake_one() end
return there
