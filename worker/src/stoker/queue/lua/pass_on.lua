#!lua flags=allow-oom
-- Wake another worker if there is work: the one that calls will not do it, nor watch the rate limit.
-- KEYS: ready suspects meta wake
-- ARGV: none
-- Returns 0 when there was no work
local ready, suspects, meta, wake = unpack(KEYS)

redis.call('HDEL', meta, 'watcher', 'watch_until')
local waiting = redis.call('EXISTS', ready, suspects)
if waiting > 0 then wake_one(wake) end
return waiting
