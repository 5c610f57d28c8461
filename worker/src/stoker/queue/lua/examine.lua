#!lua flags=allow-oom
-- Check that each task is in exactly one state and has an envelope and the columns of its state; repair it with `mend`.
-- KEYS: tasks ready suspects scheduled leases dead done cancelled owners attempts lost levels errors results cancels meta stats wake uniques claims
--       history progress logs members outbox limits running_by parked parked_by unclaimed unclaimed_by unclaimed_as
-- ARGV: mend (0|1), then ids
-- Returns for each id: '' (sound) | the first trouble: 'in no state' | 'without envelope' | 'in two states' | 'owner without lease'
--       | 'lease without owner' | 'in the wrong ready set' (:suspects is for tasks that were lost more than once) | 'stray claim'
--       | 'stray column' (of another state)
--       | 'concurrency out of step' (its key counts it wrongly as running or parked)
--       | 'unclaimed out of step' (its name does not lead to it, or does though it is elsewhere)
local TROUBLES_AT_ONCE = 4
-- Those from which a task will run come first.
local SETS = {ready, suspects, scheduled, leases, dead, done, cancelled, parked, unclaimed}
local COLUMNS = {tasks, owners, attempts, lost, levels, errors, results, cancels, history, progress, logs, limits, unclaimed_as}
local ENDED, OVER = {[dead] = true, [done] = true, [cancelled] = true}, {[done] = true, [cancelled] = true}

-- Makes a task ready, behind those of its priority.
local function make_ready_again(id)
  local level, readable, task = redis.call('HGET', levels, id), pcall(cjson.decode, redis.call('HGET', tasks, id))
  level = tonumber(level or readable and type(task) == 'table' and -(tonumber(task.priority) or 0) or 0)
  make_ready({rank_at(level, now_ms()), id})
  redis.call('HDEL', levels, id)
  wake_one()
end

-- Whether its claim is held by another task, or outlives it.
local function stray_claim(id, set)
  local claim = redis.call('HGET', claims, id)
  if not claim then return false end
  local held = redis.call('HGET', uniques, string.sub(claim, 3))
  return ENDED[set] or not held or string.match(held, ' (.+)$') ~= id
end

-- The columns that a task in this state must not have.
local function stray_columns(id, set)
  local found = {}
  local function never(column, there)
    if not there and redis.call('HEXISTS', column, id) == 1 then found[#found + 1] = column end
  end
  never(cancels, set == leases)
  never(results, set == done)
  never(levels, set == scheduled or set == dead)
  for _, column in ipairs({attempts, lost, errors, limits, members}) do never(column, not OVER[set]) end
  return found
end

-- Whether its concurrency key counts it wrongly as running or parked.
local function out_of_step(id, limit, leased)
  local rank = redis.call('ZSCORE', parked, id)
  if not limit then return rank and true or false end
  local running, waits = redis.call('ZSCORE', running_by, running_member(limit, id)), rank and redis.call('ZSCORE', parked_by, parked_member(limit, tonumber(rank), id))
  return (running and true or false) ~= (leased and true or false) or (rank and not waits)
end

-- Unparking is always safe: fetching checks the limit again.
local function repair_concurrency(id, limit, leased)
  local rank = redis.call('ZSCORE', parked, id)
  if rank then
    if limit then unpark(limit, tonumber(rank), id) else redis.call('ZREM', parked, id) end
    make_ready({rank, id})
    wake_one()
  end
  if not limit then return end
  if leased then
    redis.call('ZADD', running_by, 0, running_member(limit, id))
  elseif unpark_next({[id] = limit}, {id}) > 0 then
    wake_one()
  end
end

-- Whether an unclaimed task cannot be found by its name, or another can.
local function unclaimed_out_of_step(id, set)
  local text = redis.call('HGET', unclaimed_as, id)
  local aside = unclaimed_parts(text)
  if set ~= unclaimed then return text and true or false end
  return not aside or not redis.call('ZSCORE', unclaimed_by, unclaimed_member(aside, id))
end

-- The first trouble of a task, and the function that repairs it.
local function examined(id)
  local found, limit = {}, limits_of({id})[id]
  for _, set in ipairs(SETS) do
    if redis.call('ZSCORE', set, id) then found[#found + 1] = set end
  end
  local set, owned, leased = found[1], redis.call('HEXISTS', owners, id) == 1, redis.call('ZSCORE', leases, id)

  if redis.call('HEXISTS', tasks, id) == 0 then
    return 'without envelope', function()
      free_claims({id})
      take_back({id})
      report_gone_members({id}, 'purged')
      for _, at in ipairs(found) do redis.call('ZREM', at, id) end
      for _, column in ipairs(COLUMNS) do redis.call('HDEL', column, id) end
      if limit and unpark_next({[id] = limit}, {id}) > 0 then wake_one() end
    end
  elseif #found == 0 then
    return 'in no state', function()
      redis.call('HDEL', owners, id)
      make_ready_again(id)
    end
  elseif #found > 1 then
    -- Running twice is allowed, losing is not: keep the first of SETS.
    return 'in two states', function()
      local keep = leased and owned and leases or set
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
      make_ready_again(id)
    end
  elseif set == ready and is_suspect(redis.call('HGET', lost, id)) or set == suspects and redis.call('HEXISTS', lost, id) == 0 then
    return 'in the wrong ready set', function()
      local at = redis.call('ZSCORE', set, id)
      redis.call('ZREM', set, id)
      make_ready({at, id})
      wake_one()
    end
  elseif stray_claim(id, set) then
    return 'stray claim', function() free_claims({id}) end
  elseif out_of_step(id, limit, leased) then
    return 'concurrency out of step', function() repair_concurrency(id, limit, leased) end
  elseif unclaimed_out_of_step(id, set) then
    return 'unclaimed out of step', function()
      take_back({id})
      redis.call('ZREM', unclaimed, id)
      if set == unclaimed then make_ready_again(id) end
    end
  end
  local columns_of_others = stray_columns(id, set)
  if #columns_of_others > 0 then
    return 'stray column', function()
      if set == cancelled then report_gone_members({id}, 'cancelled') end
      for _, column in ipairs(columns_of_others) do redis.call('HDEL', column, id) end
    end
  end
  return ''
end

local mend, reply, mended = ARGV[1] == '1', {}, 0
for at = 2, #ARGV do
  local trouble, repair = examined(ARGV[at])
  reply[#reply + 1] = trouble
  if mend and trouble ~= '' then
    mended = mended + 1
    for _ = 1, TROUBLES_AT_ONCE do
      if repair then repair() end
      trouble, repair = examined(ARGV[at])
    end
  end
end
if mended > 0 then redis.call('HINCRBY', stats, 'mended', mended) end
return reply
