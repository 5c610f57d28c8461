#!lua flags=allow-oom
-- Take the next tasks, by priority and then arrival, under a lease. At most one suspect, and none beside another.
-- KEYS: ready suspects leases owners tasks attempts lost levels scheduled meta stats wake uniques claims
-- ARGV: worker nonce room lease_ms holds_suspect (0|1) per_second (0 = no rate limit) burst
-- Returns {now_ms, come_back_ms (-1 none), paused 0|1, first fence number,
--          then for each task: id envelope failures losses waited_ms}
--         come_back_ms: when the next task falls due, or when the rate limit lets the next one go
local ready, suspects, leases, owners, tasks, attempts, lost, levels, scheduled, meta, stats, wake, uniques, claims = unpack(KEYS)
local worker, nonce, room, lease, holds_suspect = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local per_second, burst = tonumber(ARGV[6]), tonumber(ARGV[7])
local PROMOTED_AT_ONCE, BATCHES_A_SECOND = 100, 100

local now = now_ms(meta)
if redis.call('HGET', meta, 'paused') then return {now, -1, 1, 0} end

promote(scheduled, levels, ready, suspects, lost, now, PROMOTED_AT_ONCE)
local next_due = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2]
local reply = {now, next_due and tonumber(next_due) or -1, 0, 0}

-- What the rate limit lets go, as rules/ratelimit.py has it: `debt` is in thousandths of a task, so all of it is exact.
local allowed, debt = room, 0
if per_second > 0 then
  local was = redis.call('HMGET', meta, 'debt', 'debt_at')
  debt = math.max(0, tonumber(was[1] or 0) - (now - tonumber(was[2] or now)) * per_second)
  allowed = math.max(0, math.min(room, math.floor(burst - debt / 1000)))
end

-- The limit holds back what this worker has room for. One worker watches it: told when to come back, it wakes nobody,
-- and all others sleep on. A watcher that died is replaced by whoever looks after the time it was told.
local function watch(free, takes_suspects)
  if redis.call('EXISTS', ready) == 0 and not (takes_suspects and redis.call('EXISTS', suspects) == 1) then return false end
  local watcher = redis.call('HMGET', meta, 'watcher', 'watch_until')
  if not watcher[1] or watcher[1] == worker or tonumber(watcher[2]) <= now then
    local worth_it = math.max(1, math.min(free, burst, math.floor(per_second / BATCHES_A_SECOND)))
    local at = now + math.max(1, math.ceil((debt + (worth_it - burst) * 1000) / per_second))
    redis.call('HSET', meta, 'watcher', worker, 'watch_until', at)
    if reply[2] < 0 or at < reply[2] then reply[2] = at end
  end
  return true
end

if allowed == 0 then
  watch(room, not holds_suspect)
  return reply
end

-- The first suspect comes along where its place in line is among the first `allowed`.
local suspect = holds_suspect and {} or redis.call('ZRANGE', suspects, 0, 0, 'WITHSCORES')
if suspect[1] and redis.call('ZCOUNT', ready, '-inf', '(' .. suspect[2]) >= allowed then suspect = {} end
local popped = allowed > #suspect / 2 and redis.call('ZPOPMIN', ready, allowed - #suspect / 2) or {}
if suspect[1] then redis.call('ZREM', suspects, suspect[1]) end

local ids, places = {}, {}
local function take(id, place) ids[#ids + 1], places[#places + 1] = id, place end
for at = 1, #popped, 2 do
  if suspect[1] and tonumber(suspect[2]) < tonumber(popped[at + 1]) then
    take(suspect[1], suspect[2])
    suspect = {}
  end
  take(popped[at], popped[at + 1])
end
if suspect[1] then take(suspect[1], suspect[2]) end
if #ids == 0 then return reply end

local envelopes, failures, losses = columns(tasks, ids), columns(attempts, ids), columns(lost, ids)
local last = redis.call('HINCRBY', meta, 'fence', #ids)
local expiry, leased, owned, took_suspect = now + lease, {}, {}, false
reply[4] = last - #ids + 1

for at, id in ipairs(ids) do
  if envelopes[at] then
    local fence = string.format('%016d:%s:%s', reply[4] + at - 1, worker, nonce)
    leased[#leased + 1], leased[#leased + 2] = expiry, id
    owned[#owned + 1], owned[#owned + 2] = id, fence .. ' ' .. places[at]
  else
    -- An id without an envelope cannot run; it is counted, never hidden.
    redis.call('HINCRBY', stats, 'invariant_violations', 1)
  end
  local n, waited = #reply, math.max(0, now - arrived_ms(tonumber(places[at])))
  reply[n + 1], reply[n + 2], reply[n + 3] = id, envelopes[at] or '', failures[at] or 0
  reply[n + 4], reply[n + 5] = losses[at] or 0, waited
  took_suspect = took_suspect or losses[at]
end
call_with('ZADD', leases, leased)
call_with('HSET', owners, owned)
free_claims(uniques, claims, ids, 's')

if per_second > 0 then
  debt = debt + #ids * 1000
  redis.call('HSET', meta, 'debt', debt, 'debt_at', now)
  if #ids == allowed and allowed < room and watch(room - #ids, not holds_suspect and not took_suspect) then return reply end
  if redis.call('HGET', meta, 'watcher') == worker then redis.call('HDEL', meta, 'watcher', 'watch_until') end
end

-- There is more than this worker may hold: wake the next one.
if redis.call('EXISTS', ready) == 1 or (took_suspect and redis.call('EXISTS', suspects) == 1) then wake_one(wake) end
return reply
