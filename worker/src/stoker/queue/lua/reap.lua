#!lua flags=allow-oom
-- Give back what dead workers held: those whose leases have ended.
-- KEYS: leases owners suspects dead cancelled cancels attempts lost levels errors meta stats wake uniques claims ready history events
--       members outbox workers beats limits running_by parked parked_by
-- ARGV: limit max_lost failure (JSON, kept for a buried task)
-- Returns {given back, buried, forgotten workers}
local k, p, workers, beats = reclaiming(KEYS), parking(KEYS), KEYS[RECLAIM_KEYS + 1], KEYS[RECLAIM_KEYS + 2]
local limit, max_lost, failure = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]

local now = now_ms(k.meta)
local ids = redis.call('ZRANGEBYSCORE', k.leases, '-inf', now, 'LIMIT', 0, limit)
local given_back, buried = reclaim(k, p, ids, columns(k.owners, ids), now, max_lost, failure, 'its lease ended unrenewed')

local gone = redis.call('ZRANGEBYSCORE', beats, '-inf', now, 'LIMIT', 0, limit)
call_with('HDEL', workers, gone)
call_with('ZREM', beats, gone)
for _, worker in ipairs(gone) do redis.call('HDEL', k.meta, resting_field(worker)) end
return {given_back, buried, #gone}
