-- Shared functions. scripts.py puts those that a script uses between its keys and its body: they see the keys by the names in the
-- script's header, so a script that calls one lists the function's keys too.

-- The rank of a ready task is an exact double below 2^53: level * 2^46 + tick. The level is the negated priority (higher priority
-- first), the tick its arrival in 1/64 ms since 2024-01-01 (until 2058).
local LEVEL, TICKS_PER_MS, EPOCH_MS = 2 ^ 46, 64, 1704067200000

local function rank_of(level, tick) return level * LEVEL + tick end
local function rank_at(level, ms) return rank_of(level, (ms - EPOCH_MS) * TICKS_PER_MS) end
local function level_of(rank) return math.floor(rank / LEVEL) end
local function arrived_ms(rank) return EPOCH_MS + math.floor((rank % LEVEL) / TICKS_PER_MS) end

-- Set by now_ms, in the call that reads the clock: whether events are watched, whether the queue is paused, the last arrival, and
-- when the minder counts as gone (_minding.lua).
local watched, paused, arrival, mind_until = false, false, 0, 0

-- The readings of time, in ms. *Moments* (due, expiry, cron, retention) are compared with `real`, Redis' clock, wherever it has been
-- before. What *elapses* is counted from the monotone clock that now_ms returns, and a lease ends by `sure`, which is behind it after
-- a leap: a gap in real time is one without calls, or a step of the clock, and one reading cannot tell. `attended` leaves
-- all leaps out.
local LONGEST_GAP_MS, DOUBT_MS = 1000, 15000
local real, sure, attended = 0, 0, 0

-- The monotone clock, in ms. It advances with the real one, by LONGEST_GAP_MS a call at most while that is behind; a longer gap is a
-- leap. `sure` makes up for leaps at double speed, and is there after DOUBT_MS without another one: a living worker has renewed its
-- leases by then, from the monotone clock. Field `gaps`: the sum of leaps; while there is doubt, the ms that `sure` is
-- behind, and until when.
local function now_ms()
  local time = redis.call('TIME')
  real = time[1] * 1000 + math.floor(time[2] / 1000)
  local mark = redis.call('HMGET', meta, 'logical', 'real', 'audience_until', 'paused', 'arrival', 'mind_until', 'gaps')
  local now, leapt, doubt, doubt_until = math.floor(mark[1] or real), 0, 0, 0
  if mark[7] then
    leapt = tonumber(mark[7])
  end
  if not leapt then
    local sum, behind, till = string.match(mark[7], '^(%d+) (%d+) (%d+)$')
    leapt, doubt, doubt_until = tonumber(sum or 0), tonumber(behind or 0), tonumber(till or 0)
    if doubt_until <= now or doubt_until > now + DOUBT_MS then doubt = 0 end  -- further ahead is damage
  end
  if tonumber(mark[2]) ~= real then
    local little = math.min(math.max(0, real - (mark[2] or real)), LONGEST_GAP_MS)
    local leap = math.max(0, real - now - little)
    now = now + little + leap
    if leap + doubt > 0 then
      if leap > 0 then doubt_until = now + DOUBT_MS end
      leapt, doubt = leapt + leap, doubt_until > now and math.max(0, doubt - little) + leap or 0
      local gaps = doubt > 0 and string.format('%.0f %.0f %.0f', leapt, doubt, doubt_until) or leapt
      redis.call('HSET', meta, 'logical', now, 'real', real, 'gaps', gaps)
    else
      redis.call('HSET', meta, 'logical', now, 'real', real)
    end
  end
  sure, attended = now - doubt, now - leapt
  watched = mark[3] and tonumber(mark[3]) > sure
  paused, arrival, mind_until = mark[4], tonumber(mark[5] or 0), tonumber(mark[6] or 0)
  return now
end

-- The tick after which this script's arrivals begin. Ticks count up within a millisecond, so FIFO is exact for any id.
local function last_tick(now) return math.max((now - EPOCH_MS) * TICKS_PER_MS, arrival) end

-- The ends of delays, so that a step back of the clock prolongs none: members are id US due, scores are on the clock that leaves
-- leaps out. A member counts while its task is scheduled for that due; _promote.lua removes it.
local US = '\31'
local function delayed_member(id, due) return id .. US .. string.format('%.0f', due) end

-- Makes a new task ready, or scheduled if it is due later: after `delay` ms, or at `due`. Returns its state and the last tick.
local function make_ready_or_scheduled(id, level, delay, due, now, tick)
  if delay > 0 then
    due = real + delay
    redis.call('ZADD', delayed, attended + delay, delayed_member(id, due))
  end
  if due > real then
    redis.call('ZADD', scheduled, due, id)
    if level ~= 0 then redis.call('HSET', levels, id, level) end
    return 'scheduled', tick
  end
  redis.call('ZADD', ready, rank_of(level, tick + 1), id)
  return 'ready', tick + 1
end

-- At most one token: an enqueue wakes one worker, and tokens do not pile up while no worker runs.
local function wake_one()
  if redis.call('LLEN', wake) == 0 then redis.call('LPUSH', wake, 1) end
end

-- The field of :meta that says that a worker fetches no more.
local function resting_field(worker) return 'resting ' .. worker end

-- HMGET, also of no ids.
local function columns(key, ids)
  if #ids == 0 then return {} end
  return redis.call('HMGET', key, unpack(ids))
end

-- One variadic call instead of one for each task.
local function call_with(command, key, arguments)
  if #arguments > 0 then return redis.call(command, key, unpack(arguments)) end
  return 0
end

-- Completions per second, as an exponentially decaying sum in one field.
local RATE_WINDOW_MS = 5000
local function decayed_rate(now)
  local was = redis.call('HMGET', stats, 'rate', 'rate_at')
  local rate, at = tonumber(was[1] or 0) or 0, tonumber(was[2] or now) or now  -- another writer may have put a text there
  return rate * math.exp(-(now - at) / RATE_WINDOW_MS)
end

-- One loss is no evidence against a task: its worker may have ended for any reason. From the second on it is a suspect.
local SUSPECT_FROM = 2
local function is_suspect(losses) return (tonumber(losses or 0) or 0) >= SUSPECT_FROM end

-- Makes tasks {rank, id, ...} ready. Suspects go to :suspects, so that no worker holds two of them.
local function make_ready(rows)
  local ids = {}
  for at = 2, #rows, 2 do ids[#ids + 1] = rows[at] end
  local losses, innocent, suspected = columns(lost, ids), {}, {}
  for index, id in ipairs(ids) do
    local line = is_suspect(losses[index]) and suspected or innocent
    line[#line + 1], line[#line + 2] = rows[index * 2 - 1], id
  end
  call_with('ZADD', ready, innocent)
  call_with('ZADD', suspects, suspected)
end

-- Frees the uniqueness claims of these tasks; with `mode` only claims of that mode. One EXISTS if no task holds a claim.
local function free_claims(ids, mode)
  if #ids == 0 or redis.call('EXISTS', claims) == 0 then return end
  local freed = {}
  for index, claim in ipairs(columns(claims, ids)) do
    if claim and (not mode or string.sub(claim, 1, 1) == mode) then
      local id, digest = ids[index], string.sub(claim, 3)
      local held = redis.call('HGET', uniques, digest)
      if held and string.match(held, ' (.+)$') == id then redis.call('HDEL', uniques, digest) end
      freed[#freed + 1] = id
    end
  end
  call_with('HDEL', claims, freed)
end

-- The rank of a task whose owner ("fence rank") has this fence; nothing if the fence is stale and may not write.
local function owned_rank(owner, fence)
  if owner and string.sub(owner, 1, #fence + 1) == fence .. ' ' then
    return tonumber(string.sub(owner, #fence + 2))
  end
end

-- For tasks that will never succeed: adds an entry to the outbox for the join of each that is a member of a group. One EXISTS if no
-- task is.
local function report_gone_members(ids, why)
  if #ids == 0 or redis.call('EXISTS', members) == 0 then return end
  for index, member in ipairs(columns(members, ids)) do
    if member then
      local home, join, at = string.match(member, '^(%S+) (%S+) (%d+)$')
      redis.call('XADD', outbox, '*', 'home', home, 'join', join, 'at', at, 'id', ids[index], 'why', why)
    end
  end
  call_with('HDEL', members, ids)
end
