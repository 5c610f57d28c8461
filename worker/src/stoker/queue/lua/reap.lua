#!lua flags=allow-oom
-- Give back what dead workers held. A task lost too often is buried: it may be what kills them.
-- KEYS: leases owners suspects dead cancelled cancels attempts lost levels errors workers beats meta stats wake uniques claims ready
--       members outbox limits running_by parked parked_by
-- ARGV: limit max_lost failure (JSON, kept for a buried task)
-- Returns {given back, buried, forgotten workers}
local leases, owners, suspects, dead, cancelled, cancels, attempts, lost = unpack(KEYS, 1, 8)
local levels, errors, workers, beats, meta, stats, wake, uniques, claims, ready, members, outbox = unpack(KEYS, 9, 20)
local p = parking(KEYS)
local limit, max_lost, failure = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local now = now_ms(meta)
local ids = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, limit)
local owner, cancel_asked, waiting, buried = columns(owners, ids), columns(cancels, ids), {}, 0
local over, stopped = {}, {}

for index, id in ipairs(ids) do
  local place = tonumber(string.match(owner[index] or '', ' (%S+)$') or place_at(0, now))
  if cancel_asked[index] then
    redis.call('HINCRBY', stats, 'stopped', 1)
    redis.call('ZADD', cancelled, now, id)
    for _, column in ipairs({attempts, lost, errors}) do redis.call('HDEL', column, id) end
    over[#over + 1], stopped[#stopped + 1] = id, id
  elseif redis.call('HINCRBY', lost, id, 1) >= max_lost then
    redis.call('ZADD', dead, now, id)
    redis.call('HSET', errors, id, failure)
    if level_of(place) ~= 0 then redis.call('HSET', levels, id, level_of(place)) end
    buried, over[#over + 1] = buried + 1, id
  else
    waiting[#waiting + 1], waiting[#waiting + 2] = place, id
  end
end
call_with('ZREM', leases, ids)
call_with('HDEL', owners, ids)
call_with('HDEL', cancels, ids)
call_with('ZADD', suspects, waiting)
local unparked = make_way(p, limits_of(p, ids), ids, ready, suspects, lost)
call_with('HDEL', p.limits, stopped)
free_claims(uniques, claims, over)
part_with(members, outbox, stopped, 'cancelled')
if #ids > 0 then redis.call('HINCRBY', stats, 'lost', #ids) end
if buried > 0 then redis.call('HINCRBY', stats, 'buried', buried) end
if #waiting + unparked > 0 then wake_one(wake) end

local gone = redis.call('ZRANGEBYSCORE', beats, '-inf', now, 'LIMIT', 0, limit)
call_with('HDEL', workers, gone)
call_with('ZREM', beats, gone)
return {#waiting / 2, buried, #gone}
