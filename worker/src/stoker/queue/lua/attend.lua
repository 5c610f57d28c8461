#!lua flags=allow-oom
-- Somebody watches: until `audience_ms` from now whatever happens to a task is written into the log of events. Without an
-- audience the log lasts for a while and is gone.
-- KEYS: meta events
-- ARGV: audience_ms keep_ms
-- Returns the number of the newest entry; '0-0' where there is none

local now = now_ms()
local before = tonumber(redis.call('HGET', meta, 'audience_until') or 0)
redis.call('HSET', meta, 'audience_until', math.max(before, now + ARGV[1]))
redis.call('PEXPIRE', events, ARGV[2])
local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
return newest and newest[1] or '0-0'
