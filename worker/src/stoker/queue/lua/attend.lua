#!lua flags=allow-oom
-- Record events for the next `audience_ms`. The stream expires `keep_ms` after the last call.
-- KEYS: meta events
-- ARGV: audience_ms keep_ms
-- Returns the id of the newest entry, '0-0' if there is none

local now = now_ms()
local before = tonumber(redis.call('HGET', meta, 'audience_until') or 0)
redis.call('HSET', meta, 'audience_until', math.max(before, now + ARGV[1]))
redis.call('PEXPIRE', events, ARGV[2])
local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
return newest and newest[1] or '0-0'
