#!lua flags=allow-oom
-- What waits, runs and ended, in O(1) for a given number of priority levels. Writes nothing but the clock.
-- KEYS: ready leases scheduled dead done stats beats meta
-- ARGV: horizon_ms (how far ahead `due` looks)
-- Returns {ready, running, scheduled, dead, done, due, oldest_wait_ms, workers, paused 0|1, rate * 1000, now_ms,
--          then the counters: name value ...}
local ready, leases, scheduled, dead, done, stats, beats, meta = unpack(KEYS)

local now, oldest = now_ms(meta), nil
local head = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
while head[2] do  -- the head of each priority level
  local place = tonumber(head[2])
  oldest = math.min(oldest or now, arrived_ms(place))
  head = redis.call('ZRANGEBYSCORE', ready, (level_of(place) + 1) * LEVEL, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
end

local reply = {
  redis.call('ZCARD', ready), redis.call('ZCARD', leases), redis.call('ZCARD', scheduled), redis.call('ZCARD', dead),
  redis.call('ZCARD', done), redis.call('ZCOUNT', scheduled, '-inf', now + tonumber(ARGV[1])),
  oldest and math.max(0, now - oldest) or 0, redis.call('ZCOUNT', beats, now, '+inf'),
  redis.call('HEXISTS', meta, 'paused'), math.floor(decayed_rate(stats, now) * 1000), now,
}
for _, value in ipairs(redis.call('HGETALL', stats)) do reply[#reply + 1] = value end
return reply
