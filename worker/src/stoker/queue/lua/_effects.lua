-- Effects: what a success or a launch sets off, each one text of fields separated by US, which JSON never contains. Decided by
-- rules/effects.py, packed by queue/workflows/effects.py. `task` and `send` are also kept in the rows of joins: their form stays.
--   task        id level delay_ms due_ms mode digest ttl_ms limit member envelope    enqueue a task
--   send        body                           add an entry to the outbox: for another partition, or too much for one script
--   join        id total most member level placeholder then    perform `then` once `total` members have succeeded; their results
--                                              replace its HOLE, if it has one and they have at most `most` bytes
--   arrive      join at value                  a member has succeeded; a second arrival of it changes nothing
--   break_join  join failure                   a member will never succeed: bury the placeholder with this failure
--   tombstone   id envelope                    cancel a task before it is enqueued
-- `member` is "partition join at", or empty.
local HOLE, AT_ONCE = '\30', 1000

-- Splits a text into `count` fields; the last may contain US itself.
local function parts(text, count)
  local found, from = {}, 1
  for at = 1, count - 1 do
    local stop = string.find(text, US, from, true)
    found[at], from = string.sub(text, from, stop - 1), stop + 1
  end
  found[count] = string.sub(text, from)
  return unpack(found, 1, count)
end

local effects_added, effects_held_back = 0, 0
local perform

-- Calls act(names) for the fields of one join's members in `arrivals`, at most AT_ONCE at a time.
local function each_batch(id, total, act)
  for first = 0, total - 1, AT_ONCE do
    local names = {}
    for at = first, math.min(total, first + AT_ONCE) - 1 do names[#names + 1] = id .. US .. at end
    act(names)
  end
end

-- Deletes a join. Returns the fields of its row: total most member level placeholder then.
local function close_join(id, row)
  local total = tonumber(string.match(row, '^%d+'))
  redis.call('HDEL', joins, id)
  redis.call('HDEL', waiting, id)
  each_batch(id, total, function(names) call_with('HDEL', arrivals, names) end)
  return parts(row, 6)
end

local function bury_placeholder(id, member, level, placeholder, failure)
  if redis.call('HSETNX', tasks, id, placeholder) == 0 then return end
  redis.call('ZADD', dead, real, id)
  redis.call('HSET', errors, id, failure)
  if level ~= '0' then redis.call('HSET', levels, id, level) end
  if member ~= '' then redis.call('HSET', members, id, member) end
  redis.call('HINCRBY', stats, 'buried', 1)
  record('buried', id)
end

-- Performs what follows a join whose last member has succeeded. Returns the last tick.
local function complete(now, tick, id, bytes)
  local row = redis.call('HGET', joins, id)
  local hole, values = string.find(row, HOLE, 1, true), {}
  if hole then
    each_batch(id, tonumber(string.match(row, '^%d+')), function(names)
      for _, value in ipairs(columns(arrivals, names)) do values[#values + 1] = value end
    end)
  end
  local total, most, member, level, placeholder, following = close_join(id, row)
  if hole and bytes > tonumber(most) then
    local words = 'the results of its group have %.0f bytes, at most %s fit: return references, or let the join take none'
    bury_placeholder(id, member, level, placeholder, '{"type":"ResultsTooLarge","message":"' .. string.format(words, bytes, most) .. '"}')
    return tick
  end
  if hole then
    hole = string.find(following, HOLE, 1, true)
    following = string.sub(following, 1, hole - 1) .. '[' .. table.concat(values, ',') .. ']' .. string.sub(following, hole + 1)
  end
  return perform(now, tick, following)
end

-- The functions of all kinds of effects. They are made with the first effect: Lua makes functions in every call of a script, and
-- most settlements have no effects.
local function make_actions()
  local actions = {}

  function actions.task(now, tick, rest)
    local id, level, delay, due, mode, digest, ttl, limit, member, envelope = parts(rest, 10)
    local state, last = admit(now, tick, id, envelope, tonumber(level), tonumber(delay), tonumber(due), marks_of(mode, digest, ttl, limit))
    if state == 'ready' or state == 'scheduled' then
      if member ~= '' then redis.call('HSET', members, id, member) end
      effects_added = effects_added + 1
    elseif type(state) == 'table' then
      effects_held_back = effects_held_back + 1
    end
    return last
  end

  function actions.send(_, tick, body)
    redis.call('XADD', outbox, '*', 'body', body)
    return tick
  end

  -- The fields after the id are kept as the join's row. `waiting` holds: members missing, bytes of results, the most bytes (-1: the
  -- results are not wanted), members.
  function actions.join(_, tick, rest)
    local id, row = parts(rest, 2)
    if redis.call('HEXISTS', tasks, id) == 0 and redis.call('HSETNX', joins, id, row) == 1 then
      local total, most = parts(row, 3)
      redis.call('HSET', waiting, id, total .. ' 0 ' .. (string.find(row, HOLE, 1, true) and most or '-1') .. ' ' .. total)
    end
    return tick
  end

  function actions.arrive(now, tick, rest)
    local id, at, value = parts(rest, 3)
    local waits = redis.call('HGET', waiting, id)
    if not waits then return tick end
    local missing, bytes, most, total = string.match(waits, '^(%d+) (%d+) (%S+) (%d+)$')
    bytes, most = tonumber(bytes) + #value + 1, tonumber(most)
    -- Results that are not wanted, or no longer fit, are not kept.
    if redis.call('HSETNX', arrivals, id .. US .. at, bytes <= most and value or '') == 0 then return tick end
    missing = tonumber(missing) - 1
    if missing == 0 then return complete(now, tick, id, bytes) end
    redis.call('HSET', waiting, id, string.format('%.0f %.0f %.0f %s', missing, bytes, most, total))
    return tick
  end

  function actions.break_join(_, tick, rest)
    local id, failure = parts(rest, 2)
    local row = redis.call('HGET', joins, id)
    if row then
      local _, _, member, level, placeholder = close_join(id, row)
      bury_placeholder(id, member, level, placeholder, failure)
    end
    return tick
  end

  function actions.tombstone(_, tick, rest)
    local id, envelope = parts(rest, 2)
    local row = redis.call('HGET', joins, id)
    if row then close_join(id, row) end
    if redis.call('HSETNX', tasks, id, envelope) == 1 then
      redis.call('ZADD', cancelled, real, id)
      redis.call('HINCRBY', stats, 'stopped', 1)
      record('cancelled', id)
    end
    return tick
  end

  return actions
end

local actions

function perform(now, tick, effect)
  local kind, rest = parts(effect, 2)
  actions = actions or make_actions()
  return actions[kind](now, tick, rest)
end

-- Calls act(the last tick), which returns the new last tick; then counts what was enqueued, and wakes a worker if a task is ready.
local function performing(now, act)
  local first = last_tick(now)
  local tick = act(first)
  if effects_added > 0 then
    redis.call('HSET', meta, 'arrival', tick)
    redis.call('HINCRBY', stats, 'enqueued', effects_added)
  end
  if effects_held_back > 0 then redis.call('HINCRBY', stats, 'deduplicated', effects_held_back) end
  if tick > first then wake_one() end
end

local function perform_all(now, effects)
  performing(now, function(tick)
    for _, effect in ipairs(effects) do tick = perform(now, tick, effect) end
    return tick
  end)
end

-- The whole of relay.lua and launch.lua. ARGV: memory_ms, then for each effect its key and the effect. An effect whose key is known
-- is not performed again; keys are remembered for memory_ms, '' is not.
local function perform_once()
  local now, memory, effects, keep, fresh = now_ms(), tonumber(ARGV[1]), {}, {}, {}
  for at = 2, #ARGV, 2 do
    local key = ARGV[at]
    local known = key ~= '' and redis.call('ZSCORE', relayed, key)
    if not known then
      effects[#effects + 1] = ARGV[at + 1]
      if key ~= '' then keep[#keep + 1], keep[#keep + 2] = now + memory, key end
    end
    fresh[#fresh + 1] = known and 0 or 1
  end
  call_with('ZADD', relayed, keep)
  call_with('ZREM', relayed, redis.call('ZRANGEBYSCORE', relayed, '-inf', sure, 'LIMIT', 0, 2 * #fresh))
  perform_all(now, effects)
  return fresh
end
