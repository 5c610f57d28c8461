#!lua flags=allow-oom
-- Cancel tasks: ready and scheduled ones at once; the worker of a running one learns of it by its next heartbeat.
-- KEYS: ready suspects scheduled leases cancelled cancels tasks attempts lost levels errors meta stats uniques claims wake events
--       members outbox limits running_by parked parked_by unclaimed unclaimed_by unclaimed_as
-- ARGV: ids
-- Returns for each id: 'cancelled' | 'requested' | 'over' (ended already) | 'unknown'

now_ms()
local reply, stopped, limit_of = {}, {}, limits_of(ARGV)
for index, id in ipairs(ARGV) do
  local removed = redis.call('ZREM', ready, id) + redis.call('ZREM', suspects, id) + redis.call('ZREM', scheduled, id)
  local rank = removed == 0 and limit_of[id] and redis.call('ZSCORE', parked, id)
  if rank then
    unpark(limit_of[id], tonumber(rank), id)
    removed, limit_of[id] = 1, nil
  end
  if removed == 0 and next(take_back({id})) then removed = 1 end
  if removed > 0 then
    redis.call('ZADD', cancelled, real, id)
    stopped[#stopped + 1], reply[index] = id, 'cancelled'
  elseif redis.call('ZSCORE', leases, id) then
    redis.call('HSET', cancels, id, real)
    reply[index] = 'requested'
    record('cancel_requested', id)
  elseif redis.call('ZSCORE', cancelled, id) then
    reply[index] = 'cancelled'
  else
    reply[index] = redis.call('HEXISTS', tasks, id) == 1 and 'over' or 'unknown'
  end
end
for _, column in ipairs({attempts, lost, levels, errors}) do call_with('HDEL', column, stopped) end
free_claims(stopped)
report_gone_members(stopped, 'cancelled')
if unpark_next(limit_of, stopped) > 0 then wake_one() end
call_with('HDEL', limits, stopped)
record_all('cancelled', stopped)
if #stopped > 0 then redis.call('HINCRBY', stats, 'stopped', #stopped) end
return reply
