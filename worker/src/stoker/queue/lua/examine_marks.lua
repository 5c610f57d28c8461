#!lua flags=allow-oom
-- Hold marks to what they stand for. No walk through tasks finds those whose task is gone.
-- KEYS: tasks leases ready suspects lost claims uniques workers beats joins waiting arrivals meta stats wake relayed limits running_by parked parked_by
-- ARGV: mend (0|1) memory_ms (how long relayed items are remembered), then for each mark: kind mark
--       slot     of running_by: key US id              turn     of parked_by: key US place US id
--       key      a concurrency key that has parked tasks
--       unique   a digest that is claimed              arrival  id of a join US number of a member
--       worker   its name                              relayed  key of an item
-- Returns for each: '' (sound, or gone) | what is wrong
local memory, AHEAD_AT_MOST = tonumber(ARGV[2]), 500
local judges = {}

function judges.slot(slot)
  local key, id = string.match(slot, '^(.*)' .. US .. '(.*)$')
  local limit = key and limits_of({id})[id]
  if limit and limit.key == key and redis.call('ZSCORE', leases, id) or not redis.call('ZSCORE', running_by, slot) then return '' end
  return 'counts as running with its concurrency key, and does not run', function()
    redis.call('ZREM', running_by, slot)
    if key and make_way({[id] = {key = key, most = 0}}, {id}) > 0 then wake_one() end
  end
end

function judges.turn(turn)
  local key, _, id = string.match(turn, '^(.*)' .. US .. '(.*)' .. US .. '(.*)$')
  local limit, place = key and limits_of({id})[id], key and redis.call('ZSCORE', parked, id)
  if limit and place and turn_of(limit, tonumber(place), id) == turn or not redis.call('ZSCORE', parked_by, turn) then return '' end
  return 'stands in the line of its concurrency key, and is not parked there', function() redis.call('ZREM', parked_by, turn) end
end

-- When a task of a key ends, the first parked one stands in line again where it stood. So for each free room of a key somebody stands
-- in line before all who are parked. Those before them that are of other keys go first anyway: beyond some hundreds nobody looks.
function judges.key(key)
  local from, to = members_of(key)
  local first = redis.call('ZRANGEBYLEX', parked_by, from, to, 'LIMIT', 0, 1)[1]
  local id = first and string.match(first, '[^' .. US .. ']+$')
  local limit, place = first and limits_of({id})[id], first and redis.call('ZSCORE', parked, id)
  if not limit or not place then return '' end
  local room = limit.most - redis.call('ZLEXCOUNT', running_by, from, to)
  for _, line in ipairs({ready, suspects}) do
    if room <= 0 then return '' end
    local ahead = redis.call('ZRANGEBYSCORE', line, '-inf', '(' .. place, 'LIMIT', 0, AHEAD_AT_MOST)
    if #ahead == AHEAD_AT_MOST then return '' end
    for _, other in pairs(limits_of(ahead)) do
      if other.key == key then room = room - 1 end
    end
  end
  if room <= 0 then return '' end
  return 'is parked, and its concurrency key has room', function()
    for _ = 1, math.min(room, AHEAD_AT_MOST) do
      if make_way({[id] = limit}, {id}) == 0 then break end
    end
    wake_one()
  end
end

function judges.unique(digest)
  local holder = string.match(redis.call('HGET', uniques, digest) or '', ' (.+)$')
  if not holder then return '' end
  if redis.call('HEXISTS', tasks, holder) == 1 and string.sub(redis.call('HGET', claims, holder) or '', 3) == digest then return '' end
  return 'is said to claim to be the only one, and does not', function() redis.call('HDEL', uniques, digest) end
end

function judges.arrival(field)
  local join = string.match(field, '^(.*)' .. US)
  if redis.call('HEXISTS', arrivals, field) == 0 or join and redis.call('HEXISTS', waiting, join) + redis.call('HEXISTS', joins, join) > 0 then return '' end
  return 'has an arrival, and nobody waits', function() redis.call('HDEL', arrivals, field) end
end

function judges.worker(name)
  if redis.call('HEXISTS', workers, name) == 0 or redis.call('ZSCORE', beats, name) then return '' end
  return 'is a worker that nobody would ever forget', function() redis.call('HDEL', workers, name) end
end

function judges.relayed(key)
  local till, now = redis.call('ZSCORE', relayed, key), now_ms()
  if not till or tonumber(till) <= now + memory then return '' end
  return 'was relayed, and would be remembered for too long', function() redis.call('ZADD', relayed, now + memory, key) end
end

local mend, reply, mended = ARGV[1] == '1', {}, 0
for at = 3, #ARGV, 2 do
  local trouble, set_it_right = judges[ARGV[at]](ARGV[at + 1])
  if mend and trouble ~= '' then
    set_it_right()
    mended = mended + 1
  end
  reply[#reply + 1] = trouble
end
if mended > 0 then redis.call('HINCRBY', stats, 'mended', mended) end
return reply
