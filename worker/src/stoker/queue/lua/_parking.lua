-- Concurrency keys: a limited number of a key's tasks run at a time, the others are parked. Members of running_by are key US id, of
-- parked_by key US rank US id. No key and no id contains the byte US, so a key's members are adjacent, and sorted by rank.

local function members_range(key) return '[' .. key .. US, '(' .. key .. ' ' end
local function running_member(limit, id) return limit.key .. US .. id end
local function parked_member(limit, rank, id)
  return limit.key .. US .. string.format('%03d%014.0f', level_of(rank) + 100, rank % LEVEL) .. US .. id
end

-- id -> {key, most} of those that have a key. One EXISTS if no task of the queue has one.
local function limits_of(ids)
  if #ids == 0 or redis.call('EXISTS', limits) == 0 then return {} end
  local found = {}
  for index, text in ipairs(columns(limits, ids)) do
    local most, key = string.match(text or '', '^(%d+) (.*)$')
    if key then found[ids[index]] = {key = key, most = tonumber(most)} end
  end
  return found
end

local function has_room(limit) return redis.call('ZLEXCOUNT', running_by, members_range(limit.key)) < limit.most end

local function park(limit, rank, id)
  redis.call('ZADD', parked, rank, id)
  redis.call('ZADD', parked_by, 0, parked_member(limit, rank, id))
end

local function unpark(limit, rank, id)
  redis.call('ZREM', parked, id)
  redis.call('ZREM', parked_by, parked_member(limit, rank, id))
end

-- After these tasks have stopped running or waiting: makes the next parked task of each one's key ready, at its old rank. Fetching
-- checks the limit again, so one too many does no harm. Returns how many became ready.
local function unpark_next(limit_of, ids)
  if next(limit_of) == nil then return 0 end
  local unparked = {}
  for _, id in ipairs(ids) do
    local limit = limit_of[id]
    if limit then
      redis.call('ZREM', running_by, running_member(limit, id))
      local from, to = members_range(limit.key)
      local turn = redis.call('ZRANGEBYLEX', parked_by, from, to, 'LIMIT', 0, 1)[1]
      if turn then
        local next_id = string.match(turn, '[^' .. US .. ']+$')
        unparked[#unparked + 1], unparked[#unparked + 2] = redis.call('ZSCORE', parked, next_id), next_id
        redis.call('ZREM', parked, next_id)
        redis.call('ZREM', parked_by, turn)
      end
    end
  end
  make_ready(unparked)
  return #unparked / 2
end
