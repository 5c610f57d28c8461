#!lua flags=allow-oom
-- A worker says that it lives, renews the leases it owns, and learns what it has lost.
-- KEYS: leases owners workers beats meta
-- ARGV: worker info lease_ms, then for each held delivery: id fence
-- Returns {paused 0|1, ids of lost deliveries...}
local leases, owners, workers, beats, meta = unpack(KEYS)
local worker, info, lease, FIRST = ARGV[1], ARGV[2], tonumber(ARGV[3]), 4

local now, ids, renewed = now_ms(meta), {}, {}
for at = FIRST, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
local owner = columns(owners, ids)
local reply = {redis.call('HEXISTS', meta, 'paused')}

for index, id in ipairs(ids) do
  if owned_place(owner[index], ARGV[FIRST + index * 2 - 1]) then
    renewed[#renewed + 1], renewed[#renewed + 2] = now + lease, id
  else
    reply[#reply + 1] = id
  end
end
call_with('ZADD', leases, renewed)
redis.call('HSET', workers, worker, info)
redis.call('ZADD', beats, now + lease, worker)
return reply
