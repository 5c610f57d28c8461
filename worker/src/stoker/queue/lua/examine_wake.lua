#!lua flags=allow-oom
-- Whether tasks are ready and there is no wake token. Not damage by itself: a worker that took the token is about to fetch.
-- KEYS: ready meta wake stats
-- ARGV: mend (0|1) fence (of an earlier call, '' at first) slack_ms (how late a watcher of the rate limit may be)
-- Returns {now_ms, the fence counter; -1 if no task is ready, there is a token, the queue is paused, or the rate limit is watched}
local now = now_ms()
local of = redis.call('HMGET', meta, 'paused', 'watch_until', 'fence')
local watched_until = tonumber(of[2] or 0) + ARGV[3]
if redis.call('EXISTS', ready) == 0 or redis.call('EXISTS', wake) == 1 or of[1] or watched_until > now then return {now, -1} end

local fence = tonumber(of[3] or 0)
if ARGV[1] == '1' and tonumber(ARGV[2]) == fence then
  wake_one()
  redis.call('HINCRBY', stats, 'mended', 1)
end
return {now, fence}
