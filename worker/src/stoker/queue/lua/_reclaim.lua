-- Take back what a dead worker held. The scripts that need it get these KEYS first: leases owners suspects dead cancelled cancels
-- attempts lost levels errors meta stats wake uniques claims ready history events members outbox; and those of concurrency keys last.
local RECLAIM_KEYS = 20

local function reclaiming(keys)
  local k = {}
  k.leases, k.owners, k.suspects, k.dead, k.cancelled, k.cancels, k.attempts, k.lost, k.levels = unpack(keys, 1, 9)
  k.errors, k.meta, k.stats, k.wake, k.uniques, k.claims, k.ready, k.history, k.events = unpack(keys, 10, 18)
  k.members, k.outbox = keys[19], keys[20]
  return k
end

-- `owner` are the values of :owners for these ids, `how` says in words how each was lost. A task lost too often is buried with
-- `failure`: it may be what kills its workers. Returns how many were given back, and how many buried.
local function reclaim(k, p, ids, owner, now, max_lost, failure, how)
  local cancel_asked, waiting, over, stopped, buried = columns(k.cancels, ids), {}, {}, {}, 0
  for index, id in ipairs(ids) do
    local place = tonumber(string.match(owner[index] or '', ' (%S+)$') or place_at(0, now))
    local worker = worker_of(owner[index] or '')
    if cancel_asked[index] then
      redis.call('HINCRBY', k.stats, 'stopped', 1)
      redis.call('ZADD', k.cancelled, now, id)
      for _, column in ipairs({k.attempts, k.lost, k.errors}) do redis.call('HDEL', column, id) end
      over[#over + 1], stopped[#stopped + 1] = id, id
      tell(k.events, 'cancelled', id, 'worker', worker)
    else
      local losses = redis.call('HINCRBY', k.lost, id, 1)
      local attempt = losses + (redis.call('HGET', k.attempts, id) or 0)
      remember(k.history, id, {at = now, attempt = attempt, worker = worker, type = 'WorkerLost', message = how})
      if losses >= max_lost then
        redis.call('ZADD', k.dead, now, id)
        redis.call('HSET', k.errors, id, failure)
        if level_of(place) ~= 0 then redis.call('HSET', k.levels, id, level_of(place)) end
        buried, over[#over + 1] = buried + 1, id
        tell(k.events, 'buried', id, 'worker', worker)
      else
        waiting[#waiting + 1], waiting[#waiting + 2] = place, id
        tell(k.events, 'reclaimed', id, 'worker', worker)
      end
    end
  end
  call_with('ZREM', k.leases, ids)
  call_with('HDEL', k.owners, ids)
  call_with('HDEL', k.cancels, ids)
  call_with('ZADD', k.suspects, waiting)
  local unparked = make_way(p, limits_of(p, ids), ids, k.ready, k.suspects, k.lost)
  call_with('HDEL', p.limits, stopped)
  free_claims(k.uniques, k.claims, over)
  part_with(k.members, k.outbox, stopped, 'cancelled')
  if #ids > 0 then redis.call('HINCRBY', k.stats, 'lost', #ids) end
  if buried > 0 then redis.call('HINCRBY', k.stats, 'buried', buried) end
  if #waiting + unparked > 0 then wake_one(k.wake) end
  return #waiting / 2, buried
end
