-- Start due runs and advance their schedules in one step, so each moment starts one run, however many processes look. A run started
-- by a person (`now`) does not advance the schedule.
-- KEYS: schedules upcoming runs tasks ready scheduled delayed levels dead done cancelled limits meta stats wake events
-- ARGV: for each: name definition (SHA-1 of what was read) moment_ms verb overlap (0|1) missed id envelope priority limit
--       next_moment_ms next_due_ms
--       verb: run | pass (its moment was missed) | now (started by a person)
--       limit: how many with its concurrency key may run at a time, a blank, the key; or ''
-- Returns for each: 'started' | 'skipped' (the last run has not ended) | 'passed' | 'there already' (the id is taken)
--         | 'stale' (another process was faster, or the schedule was changed, paused or removed)
local FIELDS = 12

local now = now_ms()
local first = last_tick(now)
local reply, tick, state = {}, first, nil

local function start(id, envelope, priority, limit)
  if redis.call('HSETNX', tasks, id, envelope) == 0 then return 'there already' end
  if limit ~= '' then redis.call('HSET', limits, id, limit) end
  state, tick = make_ready_or_scheduled(id, -tonumber(priority), 0, 0, now, tick)
  record('enqueued', id, 'detail', state)
  return 'started'
end

local function count(column, name, by)
  if by > 0 then redis.call('HINCRBY', schedules, column .. ' ' .. name, by) end
end

for at = 1, #ARGV, FIELDS do
  local name, sha, moment, verb, overlap, missed = unpack(ARGV, at, at + 5)
  local id, envelope, priority, limit, next_moment, next_due = unpack(ARGV, at + 6, at + 11)
  local was = redis.call('HMGET', schedules, 'definition ' .. name, 'moment ' .. name)
  local waits = was[2] == moment and redis.call('ZSCORE', upcoming, name)
  local open = redis.call('HGET', runs, name)
  open = open and not end_of_run(open)
  local answer

  if not was[1] or redis.sha1hex(was[1]) ~= sha or (verb ~= 'now' and not waits) then
    answer = 'stale'
  elseif verb == 'pass' then
    answer = 'passed'
  elseif verb == 'run' and open and overlap == '0' then
    answer = 'skipped'
    count('skipped', name, 1)
  else
    answer = start(id, envelope, priority, limit)
  end
  if answer == 'started' and not (verb == 'now' and open) then
    redis.call('HSET', schedules, 'last ' .. name, id, 'started ' .. name, real)
    redis.call('HDEL', schedules, 'ended ' .. name)
    redis.call('HSET', runs, name, id)
  end
  if answer ~= 'stale' and verb ~= 'now' then
    count('missed', name, tonumber(missed))
    redis.call('HSET', schedules, 'moment ' .. name, next_moment)
    redis.call('ZADD', upcoming, tonumber(next_due), name)
  end
  reply[#reply + 1] = answer
end

if tick > first then
  redis.call('HSET', meta, 'arrival', tick)
  redis.call('HINCRBY', stats, 'enqueued', (tick - first))
  wake_one()
end
return reply
