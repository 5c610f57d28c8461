#!lua flags=allow-oom
-- Delete ended tasks past their retention, by age and by count, oldest first, and expired relay keys. Bury old unclaimed tasks.
-- KEYS: done cancelled dead tasks attempts lost levels errors results meta limits history progress logs events members outbox relayed
--       unclaimed unclaimed_by unclaimed_as stats uniques claims hooks
-- ARGV: limit done_age_ms done_count dead_age_ms dead_count unclaimed_age_ms
-- Returns {succeeded and cancelled tasks deleted, dead tasks deleted}
local limit, done_age, done_count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local dead_age, dead_count = tonumber(ARGV[4]), tonumber(ARGV[5])

local function past(key, before, count)
  local excess = math.min(limit, redis.call('ZCARD', key) - count)
  if excess > 0 then return redis.call('ZRANGE', key, 0, excess - 1) end
  return redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, limit)
end

local now = now_ms()
local old, stopped = past(done, real, done_count), past(cancelled, real - done_age, done_count)
local hopeless = past(dead, real - dead_age, dead_count)
for key, ids in pairs({[done] = old, [cancelled] = stopped, [dead] = hopeless}) do
  call_with('ZREM', key, ids)
  for _, column in ipairs({tasks, attempts, lost, levels, errors, results, limits}) do call_with('HDEL', column, ids) end
  delete_history(ids)
  record_all('forgotten', ids)
end
report_gone_members(hopeless, 'forgotten')
call_with('ZREM', relayed, redis.call('ZRANGEBYSCORE', relayed, '-inf', sure, 'LIMIT', 0, limit))
bury_unclaimed(now, limit, tonumber(ARGV[6]))
return {#old + #stopped, #hopeless}
