#!lua flags=allow-oom
-- Hold tasks to the rule that each is in exactly one place and has an envelope; mend what is not, if asked to.
-- KEYS: tasks ready suspects scheduled leases dead done cancelled owners attempts lost levels errors results cancels meta stats wake uniques claims
--       history progress logs members outbox limits running_by parked parked_by
-- ARGV: mend (0|1), then ids
-- Returns for each id: '' (sound) | what is wrong first: 'nowhere' | 'without envelope' | 'in two places' | 'owner without lease'
--       | 'lease without owner' | 'in the wrong line' (suspects were lost with a worker, the others were not) | 'stray claim'
--       | 'stray column' (something is kept of it that only tasks in other places have)
--       | 'concurrency out of step' (running or parked, and its key does not know it, or the other way round)
local TROUBLES_AT_ONCE = 4
-- The liveliest first.
local PLACES = {ready, suspects, scheduled, leases, dead, done, cancelled, parked}
local COLUMNS = {tasks, owners, attempts, lost, levels, errors, results, cancels, history, progress, logs, limits}
local ENDED, OVER = {[dead] = true, [done] = true, [cancelled] = true}, {[done] = true, [cancelled] = true}

-- Into the line where it belongs, behind those of its priority.
local function stand_in_line(id)
  local level, readable, task = redis.call('HGET', levels, id), pcall(cjson.decode, redis.call('HGET', tasks, id))
  level = tonumber(level or readable and type(task) == 'table' and -(tonumber(task.priority) or 0) or 0)
  line_up({place_at(level, now_ms()), id})
  redis.call('HDEL', levels, id)
  wake_one()
end

-- A claim is held by a task that has not ended, and the other way round.
local function stray_claim(id, place)
  local claim = redis.call('HGET', claims, id)
  if not claim then return false end
  local held = redis.call('HGET', uniques, string.sub(claim, 3))
  return ENDED[place] or not held or string.match(held, ' (.+)$') ~= id
end

-- The columns that a task in this place has none of.
local function stray_columns(id, place)
  local found = {}
  local function never(column, there)
    if not there and redis.call('HEXISTS', column, id) == 1 then found[#found + 1] = column end
  end
  never(cancels, place == leases)
  never(results, place == done)
  never(levels, place == scheduled or place == dead)
  for _, column in ipairs({attempts, lost, errors, limits, members}) do never(column, not OVER[place]) end
  return found
end

-- A key knows exactly those of its tasks that run and those that are parked.
local function out_of_step(id, limit, leased)
  local place = redis.call('ZSCORE', parked, id)
  if not limit then return place and true or false end
  local slot, turn = redis.call('ZSCORE', running_by, slot_of(limit, id)), place and redis.call('ZSCORE', parked_by, turn_of(limit, tonumber(place), id))
  return (slot and true or false) ~= (leased and true or false) or (place and not turn)
end

-- Parked ones stand in line again, which is never wrong: fetching decides anew.
local function set_right(id, limit, leased)
  local place = redis.call('ZSCORE', parked, id)
  if place then
    if limit then leave_parking(limit, tonumber(place), id) else redis.call('ZREM', parked, id) end
    line_up({place, id})
    wake_one()
  end
  if not limit then return end
  if leased then
    redis.call('ZADD', running_by, 0, slot_of(limit, id))
  elseif make_way({[id] = limit}, {id}) > 0 then
    wake_one()
  end
end

-- What is wrong with it first, and what mends that.
local function examined(id)
  local found, limit = {}, limits_of({id})[id]
  for _, place in ipairs(PLACES) do
    if redis.call('ZSCORE', place, id) then found[#found + 1] = place end
  end
  local place, owned, leased = found[1], redis.call('HEXISTS', owners, id) == 1, redis.call('ZSCORE', leases, id)

  if redis.call('HEXISTS', tasks, id) == 0 then
    return 'without envelope', function()
      free_claims({id})
      part_with({id}, 'purged')
      for _, at in ipairs(found) do redis.call('ZREM', at, id) end
      for _, column in ipairs(COLUMNS) do redis.call('HDEL', column, id) end
      if limit and make_way({[id] = limit}, {id}) > 0 then wake_one() end
    end
  elseif #found == 0 then
    return 'nowhere', function()
      redis.call('HDEL', owners, id)
      stand_in_line(id)
    end
  elseif #found > 1 then
    -- Running twice is allowed, losing is not: the liveliest place wins.
    return 'in two places', function()
      local keep = leased and owned and leases or place
      for _, at in ipairs(found) do
        if at ~= keep then redis.call('ZREM', at, id) end
      end
      if keep ~= leases then redis.call('HDEL', owners, id) end
    end
  elseif owned and not leased then
    return 'owner without lease', function() redis.call('HDEL', owners, id) end
  elseif leased and not owned then
    return 'lease without owner', function()
      redis.call('ZREM', leases, id)
      stand_in_line(id)
    end
  elseif place == ready and redis.call('HEXISTS', lost, id) == 1 or place == suspects and redis.call('HEXISTS', lost, id) == 0 then
    return 'in the wrong line', function()
      local at = redis.call('ZSCORE', place, id)
      redis.call('ZREM', place, id)
      line_up({at, id})
      wake_one()
    end
  elseif stray_claim(id, place) then
    return 'stray claim', function() free_claims({id}) end
  elseif out_of_step(id, limit, leased) then
    return 'concurrency out of step', function() set_right(id, limit, leased) end
  end
  local columns_of_others = stray_columns(id, place)
  if #columns_of_others > 0 then
    return 'stray column', function()
      if place == cancelled then part_with({id}, 'cancelled') end
      for _, column in ipairs(columns_of_others) do redis.call('HDEL', column, id) end
    end
  end
  return ''
end

local mend, reply, mended = ARGV[1] == '1', {}, 0
for at = 2, #ARGV do
  local trouble, set_it_right = examined(ARGV[at])
  reply[#reply + 1] = trouble
  if mend and trouble ~= '' then
    mended = mended + 1
    for _ = 1, TROUBLES_AT_ONCE do
      if set_it_right then set_it_right() end
      trouble, set_it_right = examined(ARGV[at])
    end
  end
end
if mended > 0 then redis.call('HINCRBY', stats, 'mended', mended) end
return reply
