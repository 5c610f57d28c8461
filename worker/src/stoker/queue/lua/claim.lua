#!lua flags=allow-oom
-- Claim a queue for a TaskQueue. Sets the claim if there is none, or if the one to replace holds it; a repeated call writes nothing.
-- KEYS: meta
-- ARGV: claim (JSON) replaced (JSON of the claim to take over, '' = none)
-- Returns the claim that holds now

local held = redis.call('HGET', meta, 'claim')
if held and held ~= ARGV[2] then return held end
redis.call('HSET', meta, 'claim', ARGV[1])
return ARGV[1]
