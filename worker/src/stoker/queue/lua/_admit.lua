-- How a task comes into a queue.

-- Who holds a claim, while its time lasts and it has not ended; else it is free, and a stale holder forgets it.
local function holder_of(digest, now)
  local held = redis.call('HGET', uniques, digest)
  local expires, holder = string.match(held or '', '^(%d+) (.+)$')
  if not holder then return end
  if tonumber(expires) > now and redis.call('HEXISTS', tasks, holder) + redis.call('HEXISTS', claims, holder) == 2 then
    return holder
  end
  redis.call('HDEL', claims, holder)
end

-- The claim and the limit of a task, as `admit` takes them, from the four fields of `marks` (rules/admission.py).
local function marks_of(mode, digest, ttl, limit)
  return mode ~= '' and {mode = mode, digest = digest, ttl = tonumber(ttl)} or nil, limit ~= '' and limit or nil
end

-- Add a task; `claim` is {mode, digest, ttl} or nothing, `limit` the value of its column or nothing.
-- Returns its state | the envelope that has its id already | {the id that holds its claim}, then the last tick.
local function admit(now, tick, id, envelope, level, due, claim, limit)
  -- The same id again is a repeated call, whoever holds the claim.
  local holder = claim and redis.call('HEXISTS', tasks, id) == 0 and holder_of(claim.digest, now)
  if holder then return {holder}, tick end
  if redis.call('HSETNX', tasks, id, envelope) == 0 then return redis.call('HGET', tasks, id), tick end
  if claim then
    redis.call('HSET', uniques, claim.digest, string.format('%.0f ', math.max(due, now) + claim.ttl) .. id)
    redis.call('HSET', claims, id, claim.mode .. ' ' .. claim.digest)
  end
  if limit then redis.call('HSET', limits, id, limit) end
  local state, last = take_place(id, level, due, now, tick)
  tell('enqueued', id, 'detail', state)
  return state, last
end
