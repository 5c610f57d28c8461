#!lua flags=allow-oom
-- Look which chores of a partition are due, and renew the minder. In O(1), and one call while nothing is kept.
-- KEYS: scheduled delayed upcoming runs leases beats inbox outbox done cancelled dead relayed unclaimed meta
-- ARGV: worker done_age_ms done_count dead_age_ms dead_count unclaimed_age_ms
-- Returns {} if another worker minds | {ms until the next look, then the names of the chores that are due}
local worker, LEFT_OVER_MS = ARGV[1], 1000
local done_age, done_count, dead_age, dead_count = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local now = now_ms()
if is_minded(now) and redis.call('HGET', meta, 'minder') ~= worker then return {} end

local look, reply = now + LONGEST_LOOK_MS, {0}
local function is_due(chore) reply[#reply + 1] = chore end
local function first(zset) return tonumber(redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2] or math.huge) end
-- A moment (real) before the next look brings it forward: what is due starts at its time.
local function falls_due(chore, at)
  if at <= real then is_due(chore) else look = math.min(look, at + now - real) end
end

local kept = redis.call('EXISTS', scheduled, delayed, upcoming, runs, leases, inbox, outbox, done, cancelled, dead, relayed, unclaimed) > 0
if kept then
  falls_due('promotion', math.min(first(scheduled), first(delayed) + real - attended))
  -- Also how runs have ended is recorded, before their tasks are deleted.
  if redis.call('EXISTS', runs) == 1 then is_due('start runs') else falls_due('start runs', first(upcoming)) end
  if redis.call('XLEN', inbox) > 0 then is_due('take in') elseif is_closed_inbox(now) then redis.call('DEL', inbox) end

  -- The worker that adds an entry relays it at once: what is older was left over by one that died.
  local entry = redis.call('XRANGE', outbox, '-', '+', 'COUNT', 1)[1]
  local age = entry and real - string.match(entry[1], '^%d+')
  if age and (age < 0 or age >= LEFT_OVER_MS) then is_due('relay') end

  if first(done) <= real or first(cancelled) <= real - done_age or first(dead) <= real - dead_age or first(relayed) <= sure
    or first(unclaimed) <= now - tonumber(ARGV[6])
    or redis.call('ZCARD', done) > done_count or redis.call('ZCARD', cancelled) > done_count or redis.call('ZCARD', dead) > dead_count
  then is_due('sweep') end
end
if (kept and first(leases) <= sure) or first(beats) <= sure then is_due('reap') end

look = math.max(look, now + SHORTEST_LOOK_MS)
renew_minder(worker, look)
reply[1] = look - now
return reply
