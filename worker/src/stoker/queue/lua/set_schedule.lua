#!lua flags=allow-oom
-- Pause, resume or delete a schedule.
-- KEYS: schedules upcoming runs meta
-- ARGV: name verb moment_ms due_ms (of the next run; -1: suspended by its definition)
--       verb: pause | resume | remove
-- Returns -1 unknown | 0 unchanged | 1 done
local name, verb, moment, due = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if redis.call('HEXISTS', schedules, 'definition ' .. name) == 0 then return -1 end
if verb == 'remove' then
  forget_schedule(name)
  return 1
end
if verb == 'pause' then
  now_ms()
  local news = redis.call('HSETNX', schedules, 'paused ' .. name, real)
  redis.call('ZREM', upcoming, name)
  return news
end
local news = redis.call('HDEL', schedules, 'paused ' .. name)
if news == 1 and due >= 0 then
  redis.call('HSET', schedules, 'moment ' .. name, moment)
  redis.call('ZADD', upcoming, due, name)
end
return news
