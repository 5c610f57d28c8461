-- The minder: the one worker of a partition that does its chores. :meta holds its name (`minder`) and the moment at which it counts
-- as gone (`mind_until`: its next look, plus GRACE_MS). There is no election: calls that workers make anyway hand out the role.
local LONGEST_LOOK_MS, SHORTEST_LOOK_MS, GRACE_MS = 800, 10, 700

-- Whether the minder is within its time. A moment further ahead than any look is damage.
local function is_minded(now) return mind_until > now and mind_until <= now + LONGEST_LOOK_MS + GRACE_MS end

local function renew_minder(worker, look) redis.call('HSET', meta, 'minder', worker, 'mind_until', look + GRACE_MS) end

-- Makes the calling worker the minder if there is none, if it is overdue, or if a task falls due (`due` on the real clock, -1 none)
-- before it looks next.
-- Returns the ms until the worker is to look; -1 if another one minds.
local function take_over(worker, now, due)
  local look = now
  if is_minded(now) then
    if due < 0 or due + now - real >= mind_until - GRACE_MS then return -1 end
    look = math.max(due + now - real, now)
  end
  renew_minder(worker, look)
  return look - now
end

-- For a worker that is gone: frees its role, and wakes a worker to take it.
local function stop_minding(worker)
  if redis.call('HGET', meta, 'minder') ~= worker then return end
  redis.call('HDEL', meta, 'minder', 'mind_until')
  wake_one()
end
