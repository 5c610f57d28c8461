#!lua flags=allow-oom
-- Remove tasks that are not running, for good: the first `limit` of one place.
-- KEYS: place ready suspects wake uniques claims meta events tasks attempts lost levels errors results history progress logs
--       members outbox limits running_by parked parked_by
-- ARGV: limit
-- Returns how many went
local place, ready, suspects, wake, uniques, claims, meta, events = unpack(KEYS, 1, 8)
local FIRST_COLUMN, LAST_COLUMN = 9, 17
local p, lost, members, outbox = parking(KEYS), KEYS[11], KEYS[18], KEYS[19]

now_ms(meta)
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
tell_all(events, 'purged', ids)
return #ids
