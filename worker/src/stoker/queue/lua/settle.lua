#!lua flags=allow-oom
-- End deliveries. One whose fence no longer owns its task is refused, and changes nothing.
-- KEYS: leases owners ready suspects scheduled delayed dead done cancelled cancels tasks attempts lost levels errors results meta stats wake uniques claims
--       events history progress logs members outbox joins waiting arrivals limits running_by parked parked_by
--       +bury: hooks
--       +unclaim: unclaimed unclaimed_by unclaimed_as announced templates workers beats
-- ARGV: keep_ms (how long a result is kept; 0 = drop task and result), how many deliveries, then for each delivery:
--       id fence verb delay_ms body busy_ms
--       then for each effect of a delivery that has succeeded: the delivery's number, the effect (see _effects.lua)
--       verb: succeed (body = result) | retry (body = failure, one attempt charged) | snooze | release | cancel
--             | bury (body = failure; delay_ms 1: no retry could have helped, else its retries were used up)
--             | unclaim (body = version template name: set aside, unless a living worker knows it: then as snooze).
--       For a batch with bury or unclaim the script is settle+bury, settle+unclaim or settle+bury+unclaim. Those alone have the lines
--       that end in their names: keys that a script does not use cost every call.
--       A task whose cancellation was requested while it ran is cancelled instead of running again.
-- Returns for each delivery: 1 done | 0 refused
local keep, FIELDS, FIRST = tonumber(ARGV[1]), 6, 3
local EFFECTS = FIRST + ARGV[2] * FIELDS

local now, ids = now_ms(), {}
for at = FIRST, EFFECTS - 1, FIELDS do ids[#ids + 1] = ARGV[at] end
-- One call to find out that these keys do not exist, as in most queues.
local special = redis.call('EXISTS', cancels, attempts, lost, errors, progress, claims, members, limits) > 0
local owner, cancel_asked = columns(owners, ids), special and columns(cancels, ids) or {}

local reply, ended, finished, kept, result, dropped = {}, {}, {}, {}, {}, {}
local back, later, delays, buried, failed, level_set, stopped, hopeless, given_up = {}, {}, {}, {}, {}, {}, {}, {}, {}
local EVENTS = watched and {
  succeed = 'succeeded', retry = 'retried', bury = 'buried', snooze = 'postponed', release = 'released', cancel = 'cancelled',
  unclaim = 'unclaimed', --+unclaim
}
local count, busy, seen = {succeed = 0, retry = 0, bury = 0, snooze = 0, release = 0, cancel = 0}, 0, {}
count.unclaim = 0 --+unclaim

local function push(list, a, b)
  local n = #list
  list[n + 1], list[n + 2] = a, b
end

for index, id in ipairs(ids) do
  local at = FIRST + (index - 1) * FIELDS
  local fence, verb, delay, body = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 4]
  local rank = not seen[id] and owned_rank(owner[index], fence)
  if not rank then
    reply[index] = 0
  else
    reply[index], seen[id] = 1, true
    if cancel_asked[index] and verb ~= 'succeed' and verb ~= 'bury' then verb = 'cancel' end
    if verb == 'unclaim' and known_elsewhere(now, body) then verb = 'snooze' end --+unclaim
    count[verb], busy = count[verb] + 1, busy + tonumber(ARGV[at + 5])
    ended[#ended + 1] = id
    local level = level_of(rank)
    if EVENTS then record(EVENTS[verb], id, 'worker', worker_of(fence)) end
    if verb == 'succeed' then
      finished[#finished + 1] = id
      if keep > 0 then push(kept, real + keep, id) push(result, id, body) else dropped[#dropped + 1] = id end
    elseif verb == 'cancel' then
      finished[#finished + 1] = id
      push(stopped, real, id) given_up[#given_up + 1] = id
    elseif verb == 'release' then
      push(back, rank, id)
    elseif verb == 'unclaim' then --+unclaim
      set_aside(now, id, rank, body) --+unclaim
    else
      if level ~= 0 and (verb == 'bury' or delay > 0) then push(level_set, id, level) end
      if verb ~= 'snooze' then
        push(failed, id, body)
        local failure = failure_of(body)
        failure.at, failure.worker = real, worker_of(fence)
        failure.attempt = redis.call('HINCRBY', attempts, id, 1) + (redis.call('HGET', lost, id) or 0)
        if verb == 'bury' then failure.handlers = set_off_handlers(id, body, delay > 0 and 'fatal' or 'failed', failure.attempt) end --+bury
        add_failure(id, failure)
      end
      if verb == 'bury' then push(buried, real, id) hopeless[#hopeless + 1] = id
      elseif delay > 0 then push(later, real + delay, id) push(delays, attended + delay, delayed_member(id, real + delay))
      else push(back, rank_at(level, now), id) end
    end
  end
end
if #ended == 0 then
  redis.call('HINCRBY', stats, 'stale_settles', #ids)
  return reply
end

call_with('ZREM', leases, ended)
call_with('HDEL', owners, ended)
call_with('HDEL', tasks, dropped)
delete_history(dropped)
local unparked = 0
if special then
  for _, column in ipairs({cancels, progress}) do call_with('HDEL', column, ended) end
  for _, column in ipairs({attempts, lost, errors}) do call_with('HDEL', column, finished) end
  free_claims(finished)
  free_claims(hopeless)
  report_gone_members(given_up, 'cancelled')
  call_with('HDEL', members, finished)
  local limit_of = limits_of(ended)
  unparked = unpark_next(limit_of, ended)
  if next(limit_of) ~= nil then call_with('HDEL', limits, finished) end
end
call_with('ZADD', done, kept)
call_with('HSET', results, result)
make_ready(back)
call_with('ZADD', cancelled, stopped)
call_with('ZADD', scheduled, later)
call_with('ZADD', delayed, delays)
call_with('ZADD', dead, buried)
call_with('HSET', errors, failed)
call_with('HSET', levels, level_set)
if #back + unparked > 0 then wake_one() end

-- Effects: only of deliveries whose fence is good, after they have given up their claims.
if EFFECTS <= #ARGV then
  local effects = {}
  for at = EFFECTS, #ARGV, 2 do
    local index = tonumber(ARGV[at])
    if reply[index] == 1 and ARGV[FIRST + (index - 1) * FIELDS + 2] == 'succeed' then effects[#effects + 1] = ARGV[at + 1] end
  end
  perform_all(now, effects)
end

local function tally(field, by)
  if by > 0 then redis.call('HINCRBY', stats, field, by) end
end
tally('succeeded', count.succeed)
tally('retried', count.retry)
tally('failed', count.retry + count.bury)
tally('buried', count.bury)
tally('released', count.release)
tally('postponed', count.snooze)
tally('stopped', count.cancel)
tally('unclaimed', count.unclaim) --+unclaim
tally('busy_ms', busy)
tally('stale_settles', #ids - #ended)

if count.succeed > 0 then
  local rate = decayed_rate(now) + count.succeed * 1000 / RATE_WINDOW_MS
  redis.call('HSET', stats, 'rate', rate, 'rate_at', now)
end
return reply
