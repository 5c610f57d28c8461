#!lua flags=allow-oom
-- Which schedules are due. Also records how runs have ended, before their tasks are deleted.
-- KEYS: schedules upcoming runs tasks dead done cancelled meta
-- ARGV: limit
-- Returns {now_ms, next_due_ms (-1 none), then for each that is due: name definition moment_ms}

now_ms()
local open = redis.call('HGETALL', runs)
for at = 1, #open, 2 do
  local how = end_of_run(open[at + 1])
  if how then
    redis.call('HSET', schedules, 'ended ' .. open[at], string.format('%s %.0f', how, real))
    redis.call('HDEL', runs, open[at])
  end
end

local due = redis.call('ZRANGEBYSCORE', upcoming, '-inf', real, 'LIMIT', 0, tonumber(ARGV[1]))
local next_due = redis.call('ZRANGE', upcoming, 0, 0, 'WITHSCORES')[2]
local reply = {real, next_due and tonumber(next_due) or -1}
for _, name in ipairs(due) do
  local of = redis.call('HMGET', schedules, 'definition ' .. name, 'moment ' .. name)
  reply[#reply + 1] = name
  reply[#reply + 1] = of[1] or ''
  reply[#reply + 1] = of[2] or ''
end
return reply
