#!lua flags=allow-oom
-- Remove tasks that are not running, for good: the first `limit` of one place.
-- KEYS: place ready suspects wake uniques claims tasks attempts lost levels errors results
--       members outbox limits running_by parked parked_by
-- ARGV: limit
-- Returns how many went
local place, ready, suspects, wake, uniques, claims, FIRST_COLUMN, LAST_COLUMN = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], 7, 12
local p, lost, members, outbox = parking(KEYS), KEYS[9], KEYS[13], KEYS[14]

local ids = redis.call('ZRANGE', place, 0, tonumber(ARGV[1]) - 1)
local limits = limits_of(p, ids)
free_claims(uniques, claims, ids)
if place == p.places then
  for id, limit in pairs(limits) do leave_parking(p, limit, tonumber(redis.call('ZSCORE', place, id)), id) end
end
call_with('ZREM', place, ids)
if place ~= p.places and make_way(p, limits, ids, ready, suspects, lost) > 0 then wake_one(wake) end
part_with(members, outbox, ids, 'purged')
for at = FIRST_COLUMN, LAST_COLUMN do call_with('HDEL', KEYS[at], ids) end
call_with('HDEL', p.limits, ids)
return #ids
