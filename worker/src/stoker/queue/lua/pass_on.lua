#!lua flags=allow-oom
-- Wake another worker if there is work: the one that calls will not do it.
-- KEYS: ready wake
-- ARGV: none
-- Returns 1 when there was work, else 0
local ready, wake = unpack(KEYS)

local waiting = redis.call('EXISTS', ready)
if waiting == 1 then wake_one(wake) end
return waiting
