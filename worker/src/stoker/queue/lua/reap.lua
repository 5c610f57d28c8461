#!lua flags=allow-oom
-- Give back tasks whose lease has expired, and forget workers whose heartbeat has.
-- KEYS: leases owners suspects dead cancelled cancels attempts lost levels errors meta stats wake uniques claims ready history events
--       members outbox workers beats limits running_by parked parked_by tasks hooks
-- ARGV: limit max_lost failure (JSON, kept for a buried task)
-- Returns {given back, buried, forgotten workers}
local limit, max_lost, failure = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local now = now_ms()
local ids = redis.call('ZRANGEBYSCORE', leases, '-inf', sure, 'LIMIT', 0, limit)
local given_back, buried = reclaim(ids, columns(owners, ids), now, max_lost, failure, 'its lease ended unrenewed')

local gone = redis.call('ZRANGEBYSCORE', beats, '-inf', sure, 'LIMIT', 0, limit)
call_with('HDEL', workers, gone)
call_with('ZREM', beats, gone)
for _, worker in ipairs(gone) do redis.call('HDEL', meta, resting_field(worker)) end
return {given_back, buried, #gone}
