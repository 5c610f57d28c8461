#!lua flags=allow-oom
-- Lease the next tasks, by rank. A worker gets a suspect only if it holds none, and one on its last life only if it holds nothing.
-- KEYS: ready suspects leases owners tasks attempts lost levels scheduled delayed meta stats wake uniques claims events beats
--       limits running_by parked parked_by
-- ARGV: worker nonce room lease_ms holds per_second (0 = no rate limit) burst
--       waited (0|1: sent behind a wait for work, perhaps long ago) max_lost
--       holds: 0 nothing, and no other fetch is in flight | 1 nothing, but another fetch may bring some | 2 tasks | 3 a suspect
-- Returns {now_ms (real), come_back_ms (-1 none), paused 0|1, mind_in_ms (-1 another worker minds), first fence number,
--          clear 0|1 (take no more until nothing is held: a task on its last life is next),
--          then for each task: id envelope failures losses waited_ms}
--         come_back_ms: until the rate limit lets the next one go; mind_in_ms: when this worker is to do the chores (mind.lua)
--         nil if a worker that waited has rested since, or its heartbeat has expired: another worker is woken
local worker, nonce, room, lease, holds = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local per_second, burst, waited, max_lost = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1', tonumber(ARGV[9])
local takes_suspect = holds < 3
local PROMOTED_AT_ONCE, PASSED_AT_ONCE, BATCHES_A_SECOND = 100, 200, 100

local now = now_ms()
if paused then return {real, -1, 1, take_over(worker, now, first_due()), 0, 0} end

-- Most waits end without a token: nothing is ready, and the minder looks before anything falls due. All that an idle worker sends.
local nothing, minded = {real, -1, 0, -1, 0, 0}, waited and is_minded(now)
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
local reply = {real, -1, 0, take_over(worker, now, due), 0, 0}

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
local function watch(free, takes_one)
  if redis.call('EXISTS', ready) == 0 and not (takes_one and redis.call('EXISTS', suspects) == 1) then return false end
  local watcher = redis.call('HMGET', meta, 'watcher', 'watch_until')
  if not watcher[1] or watcher[1] == worker or tonumber(watcher[2]) <= now then
    local worth_it = math.max(1, math.min(free, burst, math.floor(per_second / BATCHES_A_SECOND)))
    reply[2] = math.max(1, math.ceil((debt + (worth_it - burst) * 1000) / per_second))
    redis.call('HSET', meta, 'watcher', worker, 'watch_until', now + reply[2])
  end
  return true
end

if allowed == 0 then
  watch(room, takes_suspect)
  return reply
end

local function is_full(id)
  local limit = limits_of({id})[id]
  return limit and not has_room(limit)
end

local ids, ranks, losses, passed_over, took_suspect, alone, clear = {}, {}, {}, 0, false, false, false

-- The next ready tasks, up to `most`, with the first suspect among them if its rank is. One on its last life comes alone; where it
-- cannot come and this worker is to clear for it, only those before it come. A full concurrency key parks it as any other task.
local function next_in_line(most)
  local suspect = special and takes_suspect and not took_suspect and redis.call('ZRANGE', suspects, 0, 0, 'WITHSCORES') or {}
  local ahead = suspect[1] and redis.call('ZCOUNT', ready, '-inf', '(' .. suspect[2])
  if suspect[1] and ahead >= most then
    suspect = {}
  elseif suspect[1] and on_last_life(redis.call('HGET', lost, suspect[1]), max_lost) and not is_full(suspect[1]) then
    local first = ahead + #ids == 0
    if first and holds == 0 then
      alone = true
      may_clear(worker, now, now + lease)
      redis.call('ZREM', suspects, suspect[1])
      return suspect
    end
    if first and holds == 1 or may_clear(worker, now, now + CLEAR_MS) then
      clear = true
      return ahead > 0 and redis.call('ZPOPMIN', ready, ahead) or {}
    end
    suspect = {}
  end
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

repeat
  local line, found = next_in_line(allowed - #ids), {}
  for at = 1, #line / 2 do found[at] = line[at * 2 - 1] end
  local limit_of = special and limits_of(found) or {}
  local keyed = next(limit_of) ~= nil
  local lost_before = special and columns(lost, found) or {}
  local count, passed_before = #ids, passed_over
  for index, id in ipairs(found) do
    local limit, rank = keyed and limit_of[id], line[index * 2]
    if limit and not has_room(limit) then
      park(limit, tonumber(rank), id)
      record('parked', id, 'detail', limit.key)
      passed_over = passed_over + 1
    elseif not alone and lost_before[index] and on_last_life(lost_before[index], max_lost) then
      redis.call('ZADD', suspects, rank, id)
      passed_over = passed_over + 1
    else
      if limit and redis.call('HEXISTS', tasks, id) == 1 then redis.call('ZADD', running_by, 0, running_member(limit, id)) end
      count = count + 1
      ids[count], ranks[count], losses[count] = id, rank, lost_before[index]
      took_suspect = took_suspect or alone or is_suspect(lost_before[index])
    end
  end
-- Those passed over leave room for others.
until alone or clear or passed_over == passed_before or #ids == allowed or passed_over >= PASSED_AT_ONCE
if clear then
  reply[6] = 1
  -- For an idle worker, which can take it at once; unless this is one.
  if holds ~= 1 or not waited then wake_one() end
end
if #ids == 0 then
  if passed_over >= PASSED_AT_ONCE then wake_one() end
  return reply
end

local envelopes, failures = columns(tasks, ids), special and columns(attempts, ids) or {}
local last = redis.call('HINCRBY', meta, 'fence', #ids)
local expiry, leased, owned = now + lease, {}, {}
local given, FIRST, FIELDS = 0, 6, 5
reply[5] = last - #ids + 1

for at, id in ipairs(ids) do
  if envelopes[at] then
    leased[given + 1], leased[given + 2] = expiry, id
    owned[given + 1], owned[given + 2] = id, string.format('%016d:%s:%s %s', reply[5] + at - 1, worker, nonce, ranks[at])
    given = given + 2
    if watched then record('started', id, 'worker', worker) end
  else
    -- An id without an envelope cannot run: count it.
    redis.call('HINCRBY', stats, 'invariant_violations', 1)
  end
  local n = FIRST + (at - 1) * FIELDS
  reply[n + 1], reply[n + 2], reply[n + 3] = id, envelopes[at] or '', failures[at] or 0
  reply[n + 4], reply[n + 5] = losses[at] or 0, math.max(0, now - arrived_ms(tonumber(ranks[at])))
end
call_with('ZADD', leases, leased)
call_with('HSET', owners, owned)
if special then free_claims(ids, 's') end

if per_second > 0 then
  debt = debt + #ids * 1000
  redis.call('HSET', meta, 'debt', debt, 'debt_at', now)
  if not alone and #ids == allowed and allowed < room and watch(room - #ids, takes_suspect and not took_suspect) then return reply end
  if redis.call('HGET', meta, 'watcher') == worker then redis.call('HDEL', meta, 'watcher', 'watch_until') end
end

-- More tasks are ready than this worker takes: wake the next one.
if redis.call('EXISTS', ready) == 1 or (took_suspect and redis.call('EXISTS', suspects) == 1) then wake_one() end
return reply
