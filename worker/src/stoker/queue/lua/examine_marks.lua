#!lua flags=allow-oom
-- Check entries that are not named by a task's id, which examine.lua cannot find once their task is gone; repair them with `mend`.
-- KEYS: tasks leases ready suspects lost claims uniques workers beats joins waiting arrivals meta stats wake relayed limits running_by parked parked_by
--       unclaimed_by unclaimed_as
-- ARGV: mend (0|1) memory_ms (how long relayed items are remembered), then for each mark: kind mark
--       running  of running_by: key US id              parked   of parked_by: key US rank US id
--       key      a concurrency key that has parked tasks
--       unclaimed  of unclaimed_by: name US version US id
--       unique   a digest that is claimed              arrival  id of a join US number of a member
--       worker   its name                              relayed  key of an item
-- Returns for each: '' (sound, or gone) | what is wrong
local memory, AHEAD_AT_MOST = tonumber(ARGV[2]), 500
local judges = {}

function judges.running(slot)
  local key, id = string.match(slot, '^(.*)' .. US .. '(.*)$')
  local limit = key and limits_of({id})[id]
  if limit and limit.key == key and redis.call('ZSCORE', leases, id) or not redis.call('ZSCORE', running_by, slot) then return '' end
  return 'stale concurrency slot', function()
    redis.call('ZREM', running_by, slot)
    if key and unpark_next({[id] = {key = key, most = 0}}, {id}) > 0 then wake_one() end
  end
end

function judges.parked(turn)
  local key, _, id = string.match(turn, '^(.*)' .. US .. '(.*)' .. US .. '(.*)$')
  local limit, rank = key and limits_of({id})[id], key and redis.call('ZSCORE', parked, id)
  if limit and rank and parked_member(limit, tonumber(rank), id) == turn or not redis.call('ZSCORE', parked_by, turn) then return '' end
  return 'stale parking entry', function() redis.call('ZREM', parked_by, turn) end
end

function judges.unclaimed(entry)
  local id = string.match(entry, '[^' .. US .. ']+$')
  local aside = id and unclaimed_parts(redis.call('HGET', unclaimed_as, id))
  if aside and unclaimed_member(aside, id) == entry or not redis.call('ZSCORE', unclaimed_by, entry) then return '' end
  return 'stale unclaimed entry', function() redis.call('ZREM', unclaimed_by, entry) end
end

-- When a task of a key ends, the first parked one becomes ready at its old rank. So for each free slot of a key a task of it is ready,
-- ranked before all parked ones. Only the first AHEAD_AT_MOST ready tasks are searched for it.
function judges.key(key)
  local from, to = members_range(key)
  local first = redis.call('ZRANGEBYLEX', parked_by, from, to, 'LIMIT', 0, 1)[1]
  local id = first and string.match(first, '[^' .. US .. ']+$')
  local limit, rank = first and limits_of({id})[id], first and redis.call('ZSCORE', parked, id)
  if not limit or not rank then return '' end
  local room = limit.most - redis.call('ZLEXCOUNT', running_by, from, to)
  for _, line in ipairs({ready, suspects}) do
    if room <= 0 then return '' end
    local ahead = redis.call('ZRANGEBYSCORE', line, '-inf', '(' .. rank, 'LIMIT', 0, AHEAD_AT_MOST)
    if #ahead == AHEAD_AT_MOST then return '' end
    for _, other in pairs(limits_of(ahead)) do
      if other.key == key then room = room - 1 end
    end
  end
  if room <= 0 then return '' end
  return 'parked, but its concurrency key has room', function()
    for _ = 1, math.min(room, AHEAD_AT_MOST) do
      if unpark_next({[id] = limit}, {id}) == 0 then break end
    end
    wake_one()
  end
end

function judges.unique(digest)
  local holder = string.match(redis.call('HGET', uniques, digest) or '', ' (.+)$')
  if not holder then return '' end
  if redis.call('HEXISTS', tasks, holder) == 1 and string.sub(redis.call('HGET', claims, holder) or '', 3) == digest then return '' end
  return 'stale uniqueness lock', function() redis.call('HDEL', uniques, digest) end
end

function judges.arrival(field)
  local join = string.match(field, '^(.*)' .. US)
  if redis.call('HEXISTS', arrivals, field) == 0 or join and redis.call('HEXISTS', waiting, join) + redis.call('HEXISTS', joins, join) > 0 then return '' end
  return 'result for a join that is over', function() redis.call('HDEL', arrivals, field) end
end

function judges.worker(name)
  if redis.call('HEXISTS', workers, name) == 0 or redis.call('ZSCORE', beats, name) then return '' end
  return 'worker without heartbeat', function() redis.call('HDEL', workers, name) end
end

function judges.relayed(key)
  local till, now = redis.call('ZSCORE', relayed, key), now_ms()
  if not till or tonumber(till) <= now + memory then return '' end
  return 'relay key kept too long', function() redis.call('ZADD', relayed, now + memory, key) end
end

local mend, reply, mended = ARGV[1] == '1', {}, 0
for at = 3, #ARGV, 2 do
  local trouble, repair = judges[ARGV[at]](ARGV[at + 1])
  if mend and trouble ~= '' then
    repair()
    mended = mended + 1
  end
  reply[#reply + 1] = trouble
end
if mended > 0 then redis.call('HINCRBY', stats, 'mended', mended) end
return reply
