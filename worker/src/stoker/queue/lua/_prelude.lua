-- Shared functions. scripts.py puts those that a script uses between its keys and its body: they see the keys by the names in the
-- script's header, so a script that calls one lists the function's keys too.

-- A place in line is one exact double below 2^53: level * 2^46 + tick. The level is the negated
-- priority (higher priority first), a tick 1/64 ms since 2024-01-01 (room until 2058).
local LEVEL, TICKS_PER_MS, EPOCH_MS = 2 ^ 46, 64, 1704067200000

local function place_of(level, tick) return level * LEVEL + tick end
local function place_at(level, ms) return place_of(level, (ms - EPOCH_MS) * TICKS_PER_MS) end
local function level_of(place) return math.floor(place / LEVEL) end
local function arrived_ms(place) return EPOCH_MS + math.floor((place % LEVEL) / TICKS_PER_MS) end

-- What now_ms reads beside the clock, so that it costs no calls of its own: whether somebody wants to hear of events, whether the
-- queue is paused, and the arrival that was given last.
local watched, paused, arrival = false, false, 0

-- Redis' clock made monotone, in ms. After a backward step it goes on from the highest value seen,
-- at half speed until real time has caught up: it never goes back and no lease freezes. The mark keeps
-- its halves: rounded up on every call, a busy queue's clock would run at full speed and never be caught up with.
local function now_ms()
  local time = redis.call('TIME')
  local real = time[1] * 1000 + math.floor(time[2] / 1000)
  local mark = redis.call('HMGET', meta, 'logical', 'real', 'audience_until', 'paused', 'arrival')
  local logical = mark[2] and tonumber(mark[2]) == real and tonumber(mark[1]) or nil
  if not logical then
    logical = real
    if mark[1] then
      local elapsed = math.max(0, real - tonumber(mark[2]))
      logical = math.max(real, tonumber(mark[1]) + elapsed / 2)
    end
    redis.call('HSET', meta, 'logical', logical, 'real', real)
  end
  watched = mark[3] and tonumber(mark[3]) > logical
  paused, arrival = mark[4], tonumber(mark[5] or 0)
  return math.floor(logical)
end

-- Where the arrivals of this script begin: ticks are counted up within a millisecond, so that FIFO is exact for any id.
local function last_tick(now) return math.max((now - EPOCH_MS) * TICKS_PER_MS, arrival) end

-- A new task takes its first place. Returns its state, and the tick that is now the last.
local function take_place(id, level, due, now, tick)
  if due > now then
    redis.call('ZADD', scheduled, due, id)
    if level ~= 0 then redis.call('HSET', levels, id, level) end
    return 'scheduled', tick
  end
  redis.call('ZADD', ready, place_of(level, tick + 1), id)
  return 'ready', tick + 1
end

-- At most one token, so that one enqueue wakes one worker and idle queues collect nothing.
local function wake_one()
  if redis.call('LLEN', wake) == 0 then redis.call('LPUSH', wake, 1) end
end

-- Where a worker says that it takes no more, in the hash :meta.
local function resting_field(worker) return 'resting ' .. worker end

-- HMGET that takes no ids as well.
local function columns(key, ids)
  if #ids == 0 then return {} end
  return redis.call('HMGET', key, unpack(ids))
end

-- One variadic call instead of one a task.
local function call_with(command, key, arguments)
  if #arguments > 0 then return redis.call(command, key, unpack(arguments)) end
  return 0
end

-- Completions a second as an exponentially decaying sum: one field, kept and read in O(1).
local RATE_WINDOW_MS = 5000
local function decayed_rate(now)
  local was = redis.call('HMGET', stats, 'rate', 'rate_at')
  return tonumber(was[1] or 0) * math.exp(-(now - tonumber(was[2] or now)) / RATE_WINDOW_MS)
end

-- Put tasks {place, id, ...} in line. One that was lost with its worker is a suspect and stands
-- in a line of its own, so that no worker ever holds two of them.
local function line_up(rows)
  local ids = {}
  for at = 2, #rows, 2 do ids[#ids + 1] = rows[at] end
  local losses, innocent, suspected = columns(lost, ids), {}, {}
  for index, id in ipairs(ids) do
    local line = losses[index] and suspected or innocent
    line[#line + 1], line[#line + 2] = rows[index * 2 - 1], id
  end
  call_with('ZADD', ready, innocent)
  call_with('ZADD', suspects, suspected)
end

-- Tasks that ended give up their claims to be the only one of their kind; only those of one mode where one is given.
-- Where nobody claims anything this is one EXISTS.
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

-- A fence may write while it owns the task. The owner's value is the fence, a blank, the place in line.
local function owned_place(owner, fence)
  if owner and string.sub(owner, 1, #fence + 1) == fence .. ' ' then
    return tonumber(string.sub(owner, #fence + 2))
  end
end

-- Members of groups that are gone for good: their joins are told through the outbox. Where nobody is in a group, one EXISTS.
local function part_with(ids, why)
  if #ids == 0 or redis.call('EXISTS', members) == 0 then return end
  for index, member in ipairs(columns(members, ids)) do
    if member then
      local home, join, at = string.match(member, '^(%S+) (%S+) (%d+)$')
      redis.call('XADD', outbox, '*', 'home', home, 'join', join, 'at', at, 'id', ids[index], 'why', why)
    end
  end
  call_with('HDEL', members, ids)
end
