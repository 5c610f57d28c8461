#!lua flags=allow-oom
-- Declare all schedules of a source (an application's code, the TaskQueue); those it no longer lists are removed. During a rollout
-- processes declare different lists: the highest version wins, and while it is renewed lower ones are refused. Writes nothing for a
-- source that never had schedules.
-- KEYS: schedules upcoming runs meta
-- ARGV: source version list (a digest of what follows) hold_ms (how long it is renewed for) rules (0|1: may take a name from another source),
--       then for each schedule: name definition timing moment_ms due_ms (-1: suspended)
-- Returns {1 accepted | 0 refused, then the names that another source has}
local source, version, list, hold, rules = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local FIRST, FIELDS = 6, 5

local now = now_ms()
local heard, of, until_ms = string.match(redis.call('HGET', schedules, 'source ' .. source) or '', '^(%d+) (%S+) (%d+)$')
if not heard and #ARGV < FIRST then return {1} end
if heard and of ~= list and tonumber(heard) > version and tonumber(until_ms) > sure then return {0} end
if heard and of == list then version = math.max(version, tonumber(heard)) end
redis.call('HSET', schedules, 'source ' .. source, string.format('%.0f %s %.0f', version, list, now + hold))

local listed, reply = {}, {1}
for at = FIRST, #ARGV, FIELDS do listed[ARGV[at]] = true end
for at, text in ipairs(redis.call('HGETALL', schedules)) do
  local name = at % 2 == 1 and string.match(text, '^owner (.+)$')
  if name and not listed[name] and redis.call('HGET', schedules, text) == source then
    forget_schedule(name)
  end
end

for at = FIRST, #ARGV, FIELDS do
  local name, definition, timing, moment, due = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  local was = redis.call('HMGET', schedules, 'owner ' .. name, 'timing ' .. name, 'paused ' .. name)
  if was[1] and was[1] ~= source and not rules then
    reply[#reply + 1] = name
  else
    redis.call('HSET', schedules, 'owner ' .. name, source, 'definition ' .. name, definition)
    if due < 0 or was[3] then
      redis.call('ZREM', upcoming, name)
      redis.call('HSET', schedules, 'timing ' .. name, timing)
    elseif was[2] ~= timing or not redis.call('ZSCORE', upcoming, name) then
      redis.call('HSET', schedules, 'timing ' .. name, timing, 'moment ' .. name, moment)
      redis.call('ZADD', upcoming, due, name)
    end
  end
end
return reply
