-- Adding a task to a partition.

-- Whether a task that is ready or scheduled has expired: it will never run, so it may keep no other from running.
local function waits_in_vain(id, now)
  if not (redis.call('ZSCORE', ready, id) or redis.call('ZSCORE', scheduled, id)) then return false end
  local envelope = redis.call('HGET', tasks, id)
  if not string.find(envelope, '"expires":', 1, true) then return false end
  local readable, task = pcall(cjson.decode, envelope)
  return readable and type(task) == 'table' and (tonumber(task.expires) or math.huge) <= now
end

-- The task that holds a claim; nothing if the claim or its holder has expired, or its holder has ended. Deletes a stale holder's entry.
local function claim_holder(digest, now)
  local held = redis.call('HGET', uniques, digest)
  local expires, holder = string.match(held or '', '^(%d+) (.+)$')
  if not holder then return end
  if tonumber(expires) > now and redis.call('HEXISTS', tasks, holder) + redis.call('HEXISTS', claims, holder) == 2
    and not waits_in_vain(holder, now) then
    return holder
  end
  redis.call('HDEL', claims, holder)
end

-- The claim and the limit of a task, as `admit` takes them, from the four fields of `marks` (rules/admission.py).
local function marks_of(mode, digest, ttl, limit)
  return mode ~= '' and {mode = mode, digest = digest, ttl = tonumber(ttl)} or nil, limit ~= '' and limit or nil
end

-- Add a task; `claim` is {mode, digest, ttl} or nothing, `limit` the value of its column or nothing.
-- Returns its state | the envelope stored under this id | {the id that holds its claim}, then the last tick.
local function admit(now, tick, id, envelope, level, due, claim, limit)
  -- The same id again is a repeated call, whichever task holds the claim.
  local holder = claim and redis.call('HEXISTS', tasks, id) == 0 and claim_holder(claim.digest, now)
  if holder then return {holder}, tick end
  if redis.call('HSETNX', tasks, id, envelope) == 0 then return redis.call('HGET', tasks, id), tick end
  if claim then
    redis.call('HSET', uniques, claim.digest, string.format('%.0f ', math.max(due, now) + claim.ttl) .. id)
    redis.call('HSET', claims, id, claim.mode .. ' ' .. claim.digest)
  end
  if limit then redis.call('HSET', limits, id, limit) end
  local state, last = make_ready_or_scheduled(id, level, due, now, tick)
  record('enqueued', id, 'detail', state)
  return state, last
end
