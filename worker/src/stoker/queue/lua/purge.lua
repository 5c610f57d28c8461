#!lua flags=allow-oom
-- Remove tasks that are not running, for good: the first `limit` of one place.
-- KEYS: place tasks attempts lost levels errors results
-- ARGV: limit
-- Returns how many went
local ids = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)
call_with('ZREM', KEYS[1], ids)
for at = 2, #KEYS do call_with('HDEL', KEYS[at], ids) end
return #ids
