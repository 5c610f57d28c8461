#!lua flags=allow-oom
-- Remove tasks that are not running, for good: the first `limit` of one place.
-- KEYS: ready suspects parked scheduled dead done cancelled wake uniques claims meta events tasks attempts lost levels errors results
--       history progress logs members outbox limits running_by parked_by
-- ARGV: place (which of the first seven keys) limit
-- Returns how many went
local COLUMNS = {tasks, attempts, lost, levels, errors, results, history, progress, logs}
local PLACES = {
  ready = ready, suspects = suspects, parked = parked, scheduled = scheduled, dead = dead, done = done, cancelled = cancelled,
}
local place, limit = PLACES[ARGV[1]], tonumber(ARGV[2])

now_ms()
local ids = redis.call('ZRANGE', place, 0, limit - 1)
local limit_of = limits_of(ids)
free_claims(ids)
if place == parked then
  for id, of in pairs(limit_of) do leave_parking(of, tonumber(redis.call('ZSCORE', place, id)), id) end
end
call_with('ZREM', place, ids)
if place ~= parked and make_way(limit_of, ids) > 0 then wake_one() end
part_with(ids, 'purged')
for _, column in ipairs(COLUMNS) do call_with('HDEL', column, ids) end
call_with('HDEL', limits, ids)
tell_all('purged', ids)
return #ids
