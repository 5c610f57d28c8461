#!lua flags=allow-oom
-- Delete the first `limit` tasks of a set, whose tasks are not running.
-- KEYS: ready suspects parked scheduled dead done cancelled wake uniques claims meta events tasks attempts lost levels errors results
--       history progress logs members outbox limits running_by parked_by unclaimed unclaimed_by unclaimed_as
-- ARGV: set (one of the first seven keys, or unclaimed) limit
-- Returns how many were deleted
local COLUMNS = {tasks, attempts, lost, levels, errors, results, history, progress, logs}
local SETS = {
  ready = ready, suspects = suspects, parked = parked, scheduled = scheduled, dead = dead, done = done, cancelled = cancelled,
  unclaimed = unclaimed,
}
local set, limit = SETS[ARGV[1]], tonumber(ARGV[2])

now_ms()
local ids = redis.call('ZRANGE', set, 0, limit - 1)
local limit_of = limits_of(ids)
free_claims(ids)
if set == parked then
  for id, of in pairs(limit_of) do unpark(of, tonumber(redis.call('ZSCORE', set, id)), id) end
end
if set == unclaimed then take_back(ids) end
call_with('ZREM', set, ids)
if set ~= parked and unpark_next(limit_of, ids) > 0 then wake_one() end
report_gone_members(ids, 'purged')
for _, column in ipairs(COLUMNS) do call_with('HDEL', column, ids) end
call_with('HDEL', limits, ids)
record_all('purged', ids)
return #ids
