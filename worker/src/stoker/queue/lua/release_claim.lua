#!lua flags=allow-oom
-- Release the claim on a queue.
-- KEYS: meta
-- ARGV: claim (JSON; '' = whatever it is)
-- Returns the released claim, '' if there was none or another

local held = redis.call('HGET', meta, 'claim')
if not held or (ARGV[1] ~= '' and held ~= ARGV[1]) then return '' end
redis.call('HDEL', meta, 'claim')
return held
