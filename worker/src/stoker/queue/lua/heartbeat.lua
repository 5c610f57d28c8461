#!lua flags=allow-oom
-- Renew a worker's heartbeat and leases; return deliveries it has lost or is to cancel.
-- KEYS: leases owners cancels workers beats meta
-- ARGV: worker info lease_ms, then for each held delivery: fence id
-- Returns {paused 0|1, {fences of lost deliveries}, {fences of deliveries to be cancelled},
--          1 if it was not alive before, so that it has to announce its tasks, else 0, mind_in_ms (-1 another worker minds)}
local worker, info, lease, FIRST = ARGV[1], ARGV[2], tonumber(ARGV[3]), 4

local now, ids, renewed = now_ms(), {}, {}
for at = FIRST + 1, #ARGV, 2 do ids[#ids + 1] = ARGV[at] end
local owner, cancel_asked, gone, to_cancel = columns(owners, ids), columns(cancels, ids), {}, {}

for index, id in ipairs(ids) do
  local fence = ARGV[FIRST + index * 2 - 2]
  if owned_rank(owner[index], fence) then
    renewed[#renewed + 1], renewed[#renewed + 2] = now + lease, id
    if cancel_asked[index] then to_cancel[#to_cancel + 1] = fence end
  else
    gone[#gone + 1] = fence
  end
end
call_with('ZADD', leases, renewed)
redis.call('HSET', workers, worker, info)
local was_until = tonumber(redis.call('ZSCORE', beats, worker) or 0)
redis.call('ZADD', beats, now + lease, worker)
-- A worker whose slots are all full does not fetch.
return {paused and 1 or 0, gone, to_cancel, was_until <= sure and 1 or 0, take_over(worker, now, -1)}
