-- Concurrency keys: at most so many tasks of a key run at a time, the others are parked. Members of running_by are key US id, of
-- parked_by key US place US id: a byte (US) that no key and no id holds, so one key's members lie together, in order.
local US = '\31'

local function members_of(key) return '[' .. key .. US, '(' .. key .. ' ' end
local function slot_of(limit, id) return limit.key .. US .. id end
local function turn_of(limit, place, id)
  return limit.key .. US .. string.format('%03d%014.0f', level_of(place) + 100, place % LEVEL) .. US .. id
end

-- id -> {key, most} of those that have a key. Where no task of the queue has one this is one EXISTS.
local function limits_of(ids)
  if #ids == 0 or redis.call('EXISTS', limits) == 0 then return {} end
  local found = {}
  for index, text in ipairs(columns(limits, ids)) do
    local most, key = string.match(text or '', '^(%d+) (.*)$')
    if key then found[ids[index]] = {key = key, most = tonumber(most)} end
  end
  return found
end

local function is_free(limit) return redis.call('ZLEXCOUNT', running_by, members_of(limit.key)) < limit.most end

local function park(limit, place, id)
  redis.call('ZADD', parked, place, id)
  redis.call('ZADD', parked_by, 0, turn_of(limit, place, id))
end

-- Out of the car park, for whatever reason.
local function leave_parking(limit, place, id)
  redis.call('ZREM', parked, id)
  redis.call('ZREM', parked_by, turn_of(limit, place, id))
end

-- These run no more, or wait no more: for each, the next of its key stands in line again, where it stood. Fetching decides anew
-- whether it may run, so that one too many does no harm. Returns how many came.
local function make_way(limit_of, ids)
  if next(limit_of) == nil then return 0 end
  local unparked = {}
  for _, id in ipairs(ids) do
    local limit = limit_of[id]
    if limit then
      redis.call('ZREM', running_by, slot_of(limit, id))
      local from, to = members_of(limit.key)
      local turn = redis.call('ZRANGEBYLEX', parked_by, from, to, 'LIMIT', 0, 1)[1]
      if turn then
        local next_id = string.match(turn, '[^' .. US .. ']+$')
        unparked[#unparked + 1], unparked[#unparked + 2] = redis.call('ZSCORE', parked, next_id), next_id
        redis.call('ZREM', parked, next_id)
        redis.call('ZREM', parked_by, turn)
      end
    end
  end
  line_up(unparked)
  return #unparked / 2
end
