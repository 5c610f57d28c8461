-- A task on its last life runs with nothing beside it: if its worker is lost once more, only the task itself is buried. It goes to a
-- worker that holds nothing. Where all hold tasks, one of them is asked to clear: to take no more until it holds nothing.
-- :meta holds its name (`clearer`) and until when the others leave that task to it (`clear_until`).
local CLEAR_MS = 2000

local function on_last_life(losses, max_lost) return (tonumber(losses or 0) or 0) >= math.max(1, max_lost - 1) end

-- Makes the calling worker the one that clears, until then, unless another one is. Returns whether it is.
local function may_clear(worker, now, till)
  local clearer = redis.call('HMGET', meta, 'clearer', 'clear_until')
  if clearer[1] and clearer[1] ~= worker and (tonumber(clearer[2]) or 0) > now then return false end
  redis.call('HSET', meta, 'clearer', worker, 'clear_until', till)
  return true
end

-- For a worker that is gone.
local function stop_clearing(worker)
  if redis.call('HGET', meta, 'clearer') == worker then redis.call('HDEL', meta, 'clearer', 'clear_until') end
end
