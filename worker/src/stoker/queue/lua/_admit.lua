-- Adding a task to a partition.

-- Whether a task can run no more because its `expires` has passed while it waited. Only an envelope that names one is decoded.
local function has_expired(id, envelope)
  if not string.find(envelope, '"expires":', 1, true) or redis.call('HEXISTS', owners, id) == 1 then return false end
  local readable, fields = pcall(cjson.decode, envelope)
  local expires = readable and type(fields) == 'table' and tonumber(fields.expires)
  return expires and expires <= real
end

-- The task that holds a claim; nothing if the claim has expired, or its holder has expired or ended. Deletes a stale holder's entry.
local function claim_holder(digest)
  local held = redis.call('HGET', uniques, digest)
  local expires, holder = string.match(held or '', '^(%d+) (.+)$')
  if not holder then return end
  local envelope = tonumber(expires) > real and redis.call('HGET', tasks, holder)
  if envelope and redis.call('HEXISTS', claims, holder) == 1 and not has_expired(holder, envelope) then return holder end
  redis.call('HDEL', claims, holder)
end

-- The claim and the limit of a task, as `admit` takes them, from the four fields of `marks` (rules/admission.py).
local function marks_of(mode, digest, ttl, limit)
  return mode ~= '' and {mode = mode, digest = digest, ttl = tonumber(ttl)} or nil, limit ~= '' and limit or nil
end

-- Add a task, for after `delay` ms or at `due`; `claim` is {mode, digest, ttl} or nothing, `limit` the value of its column or nothing.
-- Returns its state | the envelope stored under this id | {the id that holds its claim}, then the last tick.
local function admit(now, tick, id, envelope, level, delay, due, claim, limit)
  -- The same id again is a repeated call, whichever task holds the claim.
  local holder = claim and redis.call('HEXISTS', tasks, id) == 0 and claim_holder(claim.digest)
  if holder then return {holder}, tick end
  if redis.call('HSETNX', tasks, id, envelope) == 0 then return redis.call('HGET', tasks, id), tick end
  if claim then
    redis.call('HSET', uniques, claim.digest, string.format('%.0f ', math.max(delay > 0 and real + delay or due, real) + claim.ttl) .. id)
    redis.call('HSET', claims, id, claim.mode .. ' ' .. claim.digest)
  end
  if limit then redis.call('HSET', limits, id, limit) end
  local state, last = make_ready_or_scheduled(id, level, delay, due, now, tick)
  record('enqueued', id, 'detail', state)
  return state, last
end
