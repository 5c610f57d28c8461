-- Schedules: a hash of `column name`, and the zset of those that wait for their next run.
local SCHEDULE_COLUMNS = {'definition', 'owner', 'timing', 'moment', 'paused', 'last', 'ended', 'started', 'skipped', 'missed'}

local function forget_schedule(name)
  for _, column in ipairs(SCHEDULE_COLUMNS) do redis.call('HDEL', schedules, column .. ' ' .. name) end
  redis.call('ZREM', upcoming, name)
  redis.call('HDEL', runs, name)
end

-- The final state of a run; nothing while it has not ended.
local function end_of_run(id)
  if redis.call('ZSCORE', done, id) then return 'succeeded' end
  if redis.call('ZSCORE', dead, id) then return 'dead' end
  if redis.call('ZSCORE', cancelled, id) then return 'cancelled' end
  if redis.call('HEXISTS', tasks, id) == 0 then return 'forgotten' end
end
