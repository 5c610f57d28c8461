#!lua flags=allow-oom
-- Lease the next tasks, by rank. A worker gets a suspect only if it holds none.
-- KEYS: ready suspects leases owners tasks attempts lost levels scheduled delayed meta stats wake uniques claims events beats
--       limits running_by parked parked_by
-- ARGV: worker nonce room lease_ms holds_suspect (0|1) per_second (0 = no rate limit) burst
--       waited (0|1: sent behind a wait for work, perhaps long ago)
-- Returns {now_ms (real), come_back_ms (-1 none), paused 0|1, mind_in_ms (-1 another worker minds), first fence number,
--          then for each task: id envelope failures losses waited_ms}
--         come_back_ms: until the rate limit lets the next one go; mind_in_ms: when this worker is to do the chores (mind.lua)
--         nil if a worker that waited has rested since, or its heartbeat has expired: another worker is woken
local worker, nonce, room, lease, holds_suspect = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local per_second, burst = tonumber(ARGV[6]), tonumber(ARGV[7])
local PROMOTED_AT_ONCE, PARKED_AT_ONCE, BATCHES_A_SECOND = 100, 200, 100

local now = now_ms()
if paused then return {real, -1, 1, take_over(worker, now, first_due()), 0} end

-- Most waits end without a token: nothing is ready, and the minder looks before anything falls due. All that an idle worker sends.
local waited, nothing = ARGV[8] == '1', {real, -1, 0, -1, 0}
local minded = waited and is_minded(now)
if minded and redis.call('EXISTS', ready, suspects, scheduled) == 0 then return nothing end
local due = first_due()
if minded and due > real and due + now - real >= mind_until - GRACE_MS and redis.call('EXISTS', ready, suspects) == 0 then return nothing end

if waited and (redis.call('HEXISTS', meta, resting_field(worker)) == 1 or tonumber(redis.call('ZSCORE', beats, worker) or 0) <= sure) then
  if redis.call('EXISTS', ready, suspects) > 0 then wake_one() end
  return false
end

if due >= 0 and due <= real then
  promote(now, PROMOTED_AT_ONCE)
  due = first_due()
end
local reply = {real, -1, 0, take_over(worker, now, due), 0}

-- One call to find out that these keys do not exist, as in most queues.
local special = redis.call('EXISTS', suspects, attempts, lost, claims, limits) > 0

-- How many tasks the rate limit allows (token bucket). `debt` is in thousandths of a task, so that it stays an integer.
local allowed, debt = room, 0
if per_second > 0 then
  local was = redis.call('HMGET', meta, 'debt', 'debt_at')
  debt = math.max(0, tonumber(was[1] or 0) - (now - tonumber(was[2] or now)) * per_second)
  allowed = math.max(0, math.min(room, math.floor(burst - debt / 1000)))
end

-- The rate limit holds back tasks that this worker has room for. One worker watches it: it gets the time to come back, wakes no other,
-- and the others stay idle. If it does not come back in time, the next worker that fetches replaces it.
local function watch(free, takes_suspects)
  if redis.call('EXISTS', ready) == 0 and not (takes_suspects and redis.call('EXISTS', suspects) == 1) then return false end
  local watcher = redis.call('HMGET', meta, 'watcher', 'watch_until')
  if not watcher[1] or watcher[1] == worker or tonumber(watcher[2]) <= now then
    local worth_it = math.max(1, math.min(free, burst, math.floor(per_second / BATCHES_A_SECOND)))
    reply[2] = math.max(1, math.ceil((debt + (worth_it - burst) * 1000) / per_second))
    redis.call('HSET', meta, 'watcher', worker, 'watch_until', now + reply[2])
  end
  return true
end

if allowed == 0 then
  watch(room, not holds_suspect)
  return reply
end

-- The next ready tasks, up to `most`, with the first suspect among them if its rank is.
local function next_in_line(most, takes_suspect)
  local suspect = special and takes_suspect and redis.call('ZRANGE', suspects, 0, 0, 'WITHSCORES') or {}
  if suspect[1] and redis.call('ZCOUNT', ready, '-inf', '(' .. suspect[2]) >= most then suspect = {} end
  local popped = most > #suspect / 2 and redis.call('ZPOPMIN', ready, most - #suspect / 2) or {}
  if not suspect[1] then return popped end

  redis.call('ZREM', suspects, suspect[1])
  local line, at = {}, 1
  while popped[at] and tonumber(popped[at + 1]) <= tonumber(suspect[2]) do at = at + 2 end
  for index = 1, at - 1 do line[index] = popped[index] end
  line[at], line[at + 1] = suspect[1], suspect[2]
  for index = at, #popped do line[index + 2] = popped[index] end
  return line
end

local ids, ranks, parked_now, suspected = {}, {}, 0, false
repeat
  local line, found = next_in_line(allowed - #ids, not holds_suspect and not suspected), {}
  for at = 1, #line / 2 do found[at] = line[at * 2 - 1] end
  local limit_of = special and limits_of(found) or {}
  local keyed = next(limit_of) ~= nil
  local suspicious = keyed and columns(lost, found) or {}
  local count = #ids
  for index, id in ipairs(found) do
    local limit, rank = keyed and limit_of[id], line[index * 2]
    if limit and not has_room(limit) then
      park(limit, tonumber(rank), id)
      record('parked', id, 'detail', limit.key)
      parked_now = parked_now + 1
    else
      if limit and redis.call('HEXISTS', tasks, id) == 1 then redis.call('ZADD', running_by, 0, running_member(limit, id)) end
      count = count + 1
      ids[count], ranks[count] = id, rank
      suspected = suspected or suspicious[index]
    end
  end
-- Parked tasks leave room for others.
until not keyed or #ids == allowed or #found == 0 or parked_now >= PARKED_AT_ONCE
if #ids == 0 then
  if parked_now >= PARKED_AT_ONCE then wake_one() end
  return reply
end

local envelopes, failures, losses = columns(tasks, ids), special and columns(attempts, ids) or {}, special and columns(lost, ids) or {}
local last = redis.call('HINCRBY', meta, 'fence', #ids)
local expiry, leased, owned, took_suspect = now + lease, {}, {}, false
local given, FIRST, FIELDS = 0, 5, 5
reply[FIRST] = last - #ids + 1

for at, id in ipairs(ids) do
  if envelopes[at] then
    leased[given + 1], leased[given + 2] = expiry, id
    owned[given + 1], owned[given + 2] = id, string.format('%016d:%s:%s %s', reply[FIRST] + at - 1, worker, nonce, ranks[at])
    given = given + 2
    if watched then record('started', id, 'worker', worker) end
  else
    -- An id without an envelope cannot run: count it.
    redis.call('HINCRBY', stats, 'invariant_violations', 1)
  end
  local n = FIRST + (at - 1) * FIELDS
  reply[n + 1], reply[n + 2], reply[n + 3] = id, envelopes[at] or '', failures[at] or 0
  reply[n + 4], reply[n + 5] = losses[at] or 0, math.max(0, now - arrived_ms(tonumber(ranks[at])))
  took_suspect = took_suspect or losses[at]
end
call_with('ZADD', leases, leased)
call_with('HSET', owners, owned)
if special then free_claims(ids, 's') end

if per_second > 0 then
  debt = debt + #ids * 1000
  redis.call('HSET', meta, 'debt', debt, 'debt_at', now)
  if #ids == allowed and allowed < room and watch(room - #ids, not holds_suspect and not took_suspect) then return reply end
  if redis.call('HGET', meta, 'watcher') == worker then redis.call('HDEL', meta, 'watcher', 'watch_until') end
end

-- More tasks are ready than this worker takes: wake the next one.
if redis.call('EXISTS', ready) == 1 or (took_suspect and redis.call('EXISTS', suspects) == 1) then wake_one() end
return reply
