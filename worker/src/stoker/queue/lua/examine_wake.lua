#!lua flags=allow-oom
-- Whether tasks wait and nobody is woken for them. That is nothing in itself: whoever was woken a moment ago has the token, and fetches.
-- KEYS: ready meta wake stats
-- ARGV: mend (0|1) fence (what an earlier call has returned, '' at first) slack_ms (so much later than told a watcher may come)
-- Returns {now_ms, the fence counter where nobody is awake; -1 where somebody is, the queue is paused, or the rate limit is watched}
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
