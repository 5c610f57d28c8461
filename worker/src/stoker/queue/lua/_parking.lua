-- Concurrency keys: at most so many tasks of a key run at a time, the others are parked. The scripts that need it get four KEYS
-- last: limits running_by parked parked_by. Members of running_by are key US id, of parked_by key US place US id: a byte (US)
-- that no key and no id holds, so one key's members lie together, in order.
local US = '\31'

local function parking(keys)
  local n = #keys
  return {limits = keys[n - 3], running = keys[n - 2], places = keys[n - 1], line = keys[n]}
end

local function members_of(key) return '[' .. key .. US, '(' .. key .. ' ' end
local function slot_of(limit, id) return limit.key .. US .. id end
local function turn_of(limit, place, id)
  return limit.key .. US .. string.format('%03d%014.0f', level_of(place) + 100, place % LEVEL) .. US .. id
end

-- id -> {key, most} of those that have a key. Where no task of the queue has one this is one EXISTS.
local function limits_of(p, ids)
  if #ids == 0 or redis.call('EXISTS', p.limits) == 0 then return {} end
  local found = {}
  for index, text in ipairs(columns(p.limits, ids)) do
    local most, key = string.match(text or '', '^(%d+) (.*)$')
    if key then found[ids[index]] = {key = key, most = tonumber(most)} end
  end
  return found
end

local function is_free(p, limit) return redis.call('ZLEXCOUNT', p.running, members_of(limit.key)) < limit.most end

local function park(p, limit, place, id)
  redis.call('ZADD', p.places, place, id)
  redis.call('ZADD', p.line, 0, turn_of(limit, place, id))
end

-- Out of the car park, for whatever reason.
local function leave_parking(p, limit, place, id)
  redis.call('ZREM', p.places, id)
  redis.call('ZREM', p.line, turn_of(limit, place, id))
end

-- These run no more, or wait no more: for each, the next of its key stands in line again, where it stood. Fetching decides anew
-- whether it may run, so that one too many does no harm. Returns how many came.
local function make_way(p, limits, ids, ready, suspects, lost)
  if next(limits) == nil then return 0 end
  local waiting = {}
  for _, id in ipairs(ids) do
    local limit = limits[id]
    if limit then
      redis.call('ZREM', p.running, slot_of(limit, id))
      local from, to = members_of(limit.key)
      local turn = redis.call('ZRANGEBYLEX', p.line, from, to, 'LIMIT', 0, 1)[1]
      if turn then
        local parked = string.match(turn, '[^' .. US .. ']+$')
        waiting[#waiting + 1], waiting[#waiting + 2] = redis.call('ZSCORE', p.places, parked), parked
        redis.call('ZREM', p.places, parked)
        redis.call('ZREM', p.line, turn)
      end
    end
  end
  line_up(ready, suspects, lost, waiting)
  return #waiting / 2
end
