#!lua flags=allow-oom
-- Statistics, in O(priority levels). Writes nothing but the clock. Entries of the inbox count as ready: a worker will turn them into
-- tasks. So do entries of the outbox: a queue whose last worker died before it relayed them must not look empty and scale to zero.
-- KEYS: ready suspects leases scheduled dead done cancelled stats beats meta inbox parked upcoming outbox unclaimed templates
-- ARGV: horizon_ms (how far ahead `due` looks) counter ...
-- Returns {ready, running, scheduled, dead, done, cancelled, due, oldest_wait_ms, workers, paused 0|1, throttled 0|1, parked,
--          schedules, unclaimed, next_run_ms (from now; '' none), {if any is unclaimed, for each template that has announced its
--          tasks: template, how many unclaimed ones it has not seen}, rate * 1000, now_ms,
--          then those counters that are there: name value ...}
local THROTTLED_FOR_MS = 1000
local LONGEST_COUNT = 19  -- digits of a 64-bit number

local now = now_ms()
local oldest = now
for _, line in ipairs({ready, suspects}) do
  local head = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
  while head[2] do  -- the first of each priority level
    local rank = tonumber(head[2])
    local next_level = (level_of(rank) + 1) * LEVEL
    if not (next_level > rank) then break end  -- infinite: another program wrote it, and it would be found again and again
    oldest = math.min(oldest, arrived_ms(rank))
    head = redis.call('ZRANGEBYSCORE', line, next_level, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  end
end

local arriving = 0
for _, stream in ipairs({inbox, outbox}) do
  local length = redis.call('XLEN', stream)
  if length > 0 and (stream == outbox or not is_bulky(inbox)) then
    local since = tonumber(string.match(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1], '^%d+'))
    if since > EPOCH_MS then oldest = math.min(oldest, since + now - real) end  -- a sender may have chosen the id of its entry
  end
  arriving = arriving + length
end

-- A worker with room is watching the rate limit, or was a moment ago.
local watched = redis.call('HMGET', meta, 'watch_until')[1]
local throttled = watched and tonumber(watched) > now - THROTTLED_FOR_MS and 1 or 0

local aside, unseen = redis.call('ZCARD', unclaimed), {}
if aside > 0 then
  local seen_at = redis.call('ZRANGE', templates, 0, -1, 'WITHSCORES')
  for at = 1, #seen_at, 2 do
    unseen[at], unseen[at + 1] = seen_at[at], redis.call('ZCOUNT', unclaimed, '(' .. seen_at[at + 1], '+inf')
  end
end

local horizon, next_run = real + tonumber(ARGV[1]), redis.call('ZRANGE', upcoming, 0, 0, 'WITHSCORES')[2]
local due = redis.call('ZCOUNT', scheduled, '-inf', horizon) + (next_run and redis.call('ZCOUNT', upcoming, '-inf', horizon) or 0)
local reply = {
  arriving + redis.call('ZCARD', ready) + redis.call('ZCARD', suspects), redis.call('ZCARD', leases), redis.call('ZCARD', scheduled),
  redis.call('ZCARD', dead), redis.call('ZCARD', done), redis.call('ZCARD', cancelled), due,
  now - oldest, redis.call('ZCOUNT', beats, now, '+inf'),
  redis.call('HEXISTS', meta, 'paused'), throttled, redis.call('ZCARD', parked),
  next_run and redis.call('ZCARD', upcoming) or 0, aside, next_run and tonumber(next_run) - real or '', unseen, math.floor(decayed_rate(now) * 1000), real,
}
-- Not HGETALL: another program may have written fields of any number and size.
for at, value in ipairs(redis.call('HMGET', stats, unpack(ARGV, 2))) do
  if value then
    reply[#reply + 1] = ARGV[at + 1]
    reply[#reply + 1] = string.sub(value, 1, LONGEST_COUNT + 1)
  end
end
return reply
