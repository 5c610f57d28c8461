-- Taking tasks back from dead workers.

-- `owner` are the values of :owners for these ids, `how` describes the loss; `cause` is the word for why the worker ended, nil if it is
-- not known. A task lost `max_lost` times is buried with `failure`: it may be what kills its workers. A loss that is `innocent` does not
-- count. Returns how many were given back, and how many buried.
local function reclaim(ids, owner, now, max_lost, failure, how, cause, innocent)
  local cancel_asked, back, over, stopped, buried = columns(cancels, ids), {}, {}, {}, 0
  for index, id in ipairs(ids) do
    local rank = tonumber(string.match(owner[index] or '', ' (%S+)$') or rank_at(0, now))
    local worker = worker_of(owner[index] or '')
    if cancel_asked[index] then
      redis.call('HINCRBY', stats, 'stopped', 1)
      redis.call('ZADD', cancelled, real, id)
      for _, column in ipairs({attempts, lost, errors}) do redis.call('HDEL', column, id) end
      over[#over + 1], stopped[#stopped + 1] = id, id
      record('cancelled', id, 'worker', worker)
    else
      local before = tonumber(redis.call('HGET', lost, id) or 0) or 0
      local losses = innocent and before or redis.call('HINCRBY', lost, id, 1)
      local attempt = before + 1 + (redis.call('HGET', attempts, id) or 0)
      local too_often = losses >= max_lost and not innocent
      local handlers = too_often and set_off_handlers(id, failure, 'lost', attempt) or nil
      add_failure(id, {at = real, attempt = attempt, worker = worker, type = 'WorkerLost', message = how, cause = cause, handlers = handlers})
      if too_often then
        redis.call('ZADD', dead, real, id)
        redis.call('HSET', errors, id, failure)
        if level_of(rank) ~= 0 then redis.call('HSET', levels, id, level_of(rank)) end
        buried, over[#over + 1] = buried + 1, id
        record('buried', id, 'worker', worker)
      else
        back[#back + 1], back[#back + 2] = rank, id
        record('reclaimed', id, 'worker', worker)
      end
    end
  end
  call_with('ZREM', leases, ids)
  call_with('HDEL', owners, ids)
  call_with('HDEL', cancels, ids)
  make_ready(back)
  local unparked = unpark_next(limits_of(ids), ids)
  call_with('HDEL', limits, stopped)
  free_claims(over)
  report_gone_members(stopped, 'cancelled')
  if #ids > 0 then redis.call('HINCRBY', stats, 'lost', #ids) end
  if buried > 0 then redis.call('HINCRBY', stats, 'buried', buried) end
  if #back + unparked > 0 then wake_one() end
  return #back / 2, buried
end
