#!lua flags=allow-oom
-- Remove tasks that are not running, for good: the first `limit` of one place.
-- KEYS: uniques claims place tasks attempts lost levels errors results
-- ARGV: limit
-- Returns how many went
local uniques, claims, place, FIRST_COLUMN = KEYS[1], KEYS[2], KEYS[3], 4

local ids = redis.call('ZRANGE', place, 0, tonumber(ARGV[1]) - 1)
free_claims(uniques, claims, ids)
call_with('ZREM', place, ids)
for at = FIRST_COLUMN, #KEYS do call_with('HDEL', KEYS[at], ids) end
return #ids
