-- What follows from tasks: items, each one text of fields parted by US, which JSON never holds as it is. They are made by
-- rules/plan.py and packed by items.py.
--   task    id level delay_ms due_ms mode digest ttl_ms limit member envelope
--   send    body                                 into the outbox: for another queue, or too much for one step
--   join    id total most member level standin item    `item` follows when `total` members have arrived; their results take the
--                                                place of its HOLE, if it has one, where they have at most `most` bytes
--   arrive  join at value                        a member has succeeded; whoever arrives twice is counted once
--   part    join failure                         a member is gone for good: the stand-in is buried with this failure
--   entomb  id envelope                          a task that is not there yet will never come
-- `member` is the place in a group, "queue join at", or empty.
local HOLE, AT_ONCE = '\30', 1000

-- The first so many fields less one, and the rest, which may hold US itself.
local function parts(text, count)
  local found, from = {}, 1
  for at = 1, count - 1 do
    local stop = string.find(text, US, from, true)
    found[at], from = string.sub(text, from, stop - 1), stop + 1
  end
  found[count] = string.sub(text, from)
  return unpack(found, 1, count)
end

local items_added, items_held_back = 0, 0
local perform

-- Fields of the arrivals of one join, some at a time.
local function each_batch(id, total, act)
  for first = 0, total - 1, AT_ONCE do
    local names = {}
    for at = first, math.min(total, first + AT_ONCE) - 1 do names[#names + 1] = id .. US .. at end
    act(names)
  end
end

-- A join that is over: nothing of it is left but what its row said: total most member level standin item.
local function close_join(id, row)
  local total = tonumber(string.match(row, '^%d+'))
  redis.call('HDEL', joins, id)
  redis.call('HDEL', waiting, id)
  each_batch(id, total, function(names) call_with('HDEL', arrivals, names) end)
  return parts(row, 6)
end

local function bury_standin(now, id, member, level, standin, failure)
  if redis.call('HSETNX', tasks, id, standin) == 0 then return end
  redis.call('ZADD', dead, now, id)
  redis.call('HSET', errors, id, failure)
  if level ~= '0' then redis.call('HSET', levels, id, level) end
  if member ~= '' then redis.call('HSET', members, id, member) end
  redis.call('HINCRBY', stats, 'buried', 1)
  tell('buried', id)
end

local function complete(now, tick, id, bytes)
  local row = redis.call('HGET', joins, id)
  local hole, values = string.find(row, HOLE, 1, true), {}
  if hole then
    each_batch(id, tonumber(string.match(row, '^%d+')), function(names)
      for _, value in ipairs(columns(arrivals, names)) do values[#values + 1] = value end
    end)
  end
  local total, most, member, level, standin, item = close_join(id, row)
  if hole and bytes > tonumber(most) then
    local words = 'the results of its group have %.0f bytes, at most %s fit: return references, or let the join take none'
    bury_standin(now, id, member, level, standin, '{"type":"ResultsTooLarge","message":"' .. string.format(words, bytes, most) .. '"}')
    return tick
  end
  if hole then
    hole = string.find(item, HOLE, 1, true)
    item = string.sub(item, 1, hole - 1) .. '[' .. table.concat(values, ',') .. ']' .. string.sub(item, hole + 1)
  end
  return perform(now, tick, item)
end

local actions = {}

function actions.task(now, tick, rest)
  local id, level, delay, due, mode, digest, ttl, limit, member, envelope = parts(rest, 10)
  due = tonumber(delay) > 0 and now + delay or tonumber(due)
  local state, last = admit(now, tick, id, envelope, tonumber(level), due, marks_of(mode, digest, ttl, limit))
  if state == 'ready' or state == 'scheduled' then
    if member ~= '' then redis.call('HSET', members, id, member) end
    items_added = items_added + 1
  elseif type(state) == 'table' then
    items_held_back = items_held_back + 1
  end
  return last
end

function actions.send(_, tick, body)
  redis.call('XADD', outbox, '*', 'body', body)
  return tick
end

-- The rest of the item is the row that is kept. `waiting` holds: members missing, bytes so far, the most bytes (-1: none wanted), members.
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
  -- What nobody wants, or does not fit, is not kept.
  if redis.call('HSETNX', arrivals, id .. US .. at, bytes <= most and value or '') == 0 then return tick end
  missing = tonumber(missing) - 1
  if missing == 0 then return complete(now, tick, id, bytes) end
  redis.call('HSET', waiting, id, string.format('%.0f %.0f %.0f %s', missing, bytes, most, total))
  return tick
end

function actions.part(now, tick, rest)
  local id, failure = parts(rest, 2)
  local row = redis.call('HGET', joins, id)
  if row then
    local _, _, member, level, standin = close_join(id, row)
    bury_standin(now, id, member, level, standin, failure)
  end
  return tick
end

function actions.entomb(now, tick, rest)
  local id, envelope = parts(rest, 2)
  local row = redis.call('HGET', joins, id)
  if row then close_join(id, row) end
  if redis.call('HSETNX', tasks, id, envelope) == 1 then
    redis.call('ZADD', cancelled, now, id)
    redis.call('HINCRBY', stats, 'stopped', 1)
    tell('cancelled', id)
  end
  return tick
end

function perform(now, tick, item)
  local kind, rest = parts(item, 2)
  return actions[kind](now, tick, rest)
end

-- Do this with the last tick, which returns the one that is now the last, and wake a worker if there is something to do.
local function performing(now, act)
  local first = last_tick(now)
  local tick = act(first)
  if items_added > 0 then
    redis.call('HSET', meta, 'arrival', tick)
    redis.call('HINCRBY', stats, 'enqueued', items_added)
  end
  if items_held_back > 0 then redis.call('HINCRBY', stats, 'deduplicated', items_held_back) end
  if tick > first then wake_one() end
end

-- Perform items, one after the other.
local function perform_all(now, items)
  performing(now, function(tick)
    for _, item in ipairs(items) do tick = perform(now, tick, item) end
    return tick
  end)
end

-- For the scripts that do nothing else. ARGV: memory_ms, then for each item its key and the item. An item whose key is known is not
-- performed again; keys are remembered for a while, '' is not.
local function take_in()
  local now, memory, items, keep, fresh = now_ms(), tonumber(ARGV[1]), {}, {}, {}
  for at = 2, #ARGV, 2 do
    local key = ARGV[at]
    local known = key ~= '' and redis.call('ZSCORE', relayed, key)
    if not known then
      items[#items + 1] = ARGV[at + 1]
      if key ~= '' then keep[#keep + 1], keep[#keep + 2] = now + memory, key end
    end
    fresh[#fresh + 1] = known and 0 or 1
  end
  call_with('ZADD', relayed, keep)
  call_with('ZREM', relayed, redis.call('ZRANGEBYSCORE', relayed, '-inf', now, 'LIMIT', 0, 2 * #fresh))
  perform_all(now, items)
  return fresh
end
