#!lua flags=allow-oom
-- Cancel tasks: waiting ones at once; of running ones their worker is told with its next heartbeat.
-- KEYS: ready suspects scheduled leases cancelled cancels tasks attempts lost levels errors meta stats uniques claims wake events
--       members outbox limits running_by parked parked_by
-- ARGV: ids
-- Returns for each id: 'cancelled' | 'requested' | 'over' (ended already) | 'unknown'
local ready, suspects, scheduled, leases, cancelled, cancels, tasks, attempts = unpack(KEYS, 1, 8)
local lost, levels, errors, meta, stats, uniques, claims, wake, events, members, outbox = unpack(KEYS, 9, 19)
local p = parking(KEYS)

local now, reply, stopped, limits = now_ms(meta), {}, {}, limits_of(p, ARGV)
for index, id in ipairs(ARGV) do
  local waiting = redis.call('ZREM', ready, id) + redis.call('ZREM', suspects, id) + redis.call('ZREM', scheduled, id)
  local place = waiting == 0 and limits[id] and redis.call('ZSCORE', p.places, id)
  if place then
    leave_parking(p, limits[id], tonumber(place), id)
    waiting, limits[id] = 1, nil
  end
  if waiting > 0 then
    redis.call('ZADD', cancelled, now, id)
    stopped[#stopped + 1], reply[index] = id, 'cancelled'
  elseif redis.call('ZSCORE', leases, id) then
    redis.call('HSET', cancels, id, now)
    reply[index] = 'requested'
    tell(events, 'cancel_requested', id)
  elseif redis.call('ZSCORE', cancelled, id) then
    reply[index] = 'cancelled'
  else
    reply[index] = redis.call('HEXISTS', tasks, id) == 1 and 'over' or 'unknown'
  end
end
for _, column in ipairs({attempts, lost, levels, errors}) do call_with('HDEL', column, stopped) end
free_claims(uniques, claims, stopped)
part_with(members, outbox, stopped, 'cancelled')
if make_way(p, limits, stopped, ready, suspects, lost) > 0 then wake_one(wake) end
call_with('HDEL', p.limits, stopped)
tell_all(events, 'cancelled', stopped)
if #stopped > 0 then redis.call('HINCRBY', stats, 'stopped', #stopped) end
return reply
