#!lua flags=allow-oom
-- Confirm and repair (`mend`) trouble that reads/doctor/schedules.py found, if the schedule is still as it was read.
-- KEYS: schedules upcoming runs stats
-- ARGV: mend (0|1), then for each: name, as it was read: definition ('' none) paused (0|1) moment ('' none) due ('' none);
--       verb moment_ms due_ms
--       verb: wait (for this moment) | hold (wait for none) | forget
-- Returns for each: 1 confirmed (and repaired with `mend`) | 0 it has changed meanwhile
local FIRST, FIELDS = 2, 8

local reply, mended = {}, 0
for at = FIRST, #ARGV, FIELDS do
  local name, definition, paused, moment, due, verb, next_moment, next_due = unpack(ARGV, at, at + FIELDS - 1)
  local of = redis.call('HMGET', schedules, 'definition ' .. name, 'paused ' .. name, 'moment ' .. name)
  local score = redis.call('ZSCORE', upcoming, name)
  local same = (of[1] or '') == definition and (of[2] and '1' or '0') == paused and (of[3] or '') == moment
  reply[#reply + 1] = same and tonumber(score or -1) == tonumber(due == '' and -1 or due) and 1 or 0
  if reply[#reply] == 1 and ARGV[1] == '1' then
    mended = mended + 1
    if verb == 'wait' then
      redis.call('HSET', schedules, 'moment ' .. name, next_moment)
      redis.call('ZADD', upcoming, tonumber(next_due), name)
    elseif verb == 'hold' then
      redis.call('ZREM', upcoming, name)
    else
      forget_schedule(name)
    end
  end
end
if mended > 0 then redis.call('HINCRBY', stats, 'mended', mended) end
return reply
