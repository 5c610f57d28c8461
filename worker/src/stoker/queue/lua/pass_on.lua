#!lua flags=allow-oom
-- Wake another worker if there is work: the one that calls will not do it.
-- KEYS: ready suspects wake
-- ARGV: none
-- Returns 0 when there was no work
local ready, suspects, wake = unpack(KEYS)

local waiting = redis.call('EXISTS', ready, suspects)
if waiting > 0 then wake_one(wake) end
return waiting
