#!lua flags=allow-oom
-- Delete what is left of a partition that is not in use, but the audit: it says who emptied the queue, and expires by itself.
-- KEYS: ready suspects leases scheduled dead done cancelled parked tasks inbox outbox joins waiting arrivals schedules upcoming runs meta beats
--       owners attempts lost levels errors cancels results uniques claims limits running_by parked_by members relayed history progress logs
--       events stats workers wake unclaimed unclaimed_by unclaimed_as templates announced schemas hooks delayed minutes versions decisions
-- ARGV: verb (look: delete nothing | forget | all: in use or not) idle_ms (0, or: in use while paused, and for so long after a task came)
-- Returns '' (deleted, or would be) | what keeps it in use: 'workers' | 'tasks' | 'schedules' | 'claim' | 'paused' | 'recent'
local verb, idle = ARGV[1], tonumber(ARGV[2])

local now = now_ms()
local function in_use()
  if redis.call('ZCOUNT', beats, now, '+inf') > 0 then return 'workers' end
  if redis.call('EXISTS', ready, suspects, leases, scheduled, dead, done, cancelled, parked, unclaimed, tasks, joins, waiting, arrivals) > 0
    or redis.call('XLEN', inbox) + redis.call('XLEN', outbox) > 0 then return 'tasks' end
  if redis.call('EXISTS', schedules, upcoming, runs) > 0 then return 'schedules' end
  if redis.call('HEXISTS', meta, 'claim') == 1 then return 'claim' end
  if idle > 0 and paused then return 'paused' end
  if idle > 0 and EPOCH_MS + arrival / TICKS_PER_MS > now - idle then return 'recent' end
  return ''
end

local use = verb == 'all' and '' or in_use()
if use == '' and verb ~= 'look' then
  redis.call('UNLINK', ready, suspects, leases, scheduled, dead, done, cancelled, parked, tasks, inbox, outbox, joins, waiting, arrivals, schedules)
  redis.call('UNLINK', upcoming, runs, meta, beats, owners, attempts, lost, levels, errors, cancels, results, uniques, claims, limits, running_by)
  redis.call('UNLINK', parked_by, members, relayed, history, progress, logs, events, stats, workers, wake)
  redis.call('UNLINK', unclaimed, unclaimed_by, unclaimed_as, templates, announced, schemas, hooks, delayed, minutes, versions, decisions)
end
return use
