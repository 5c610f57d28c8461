#!lua flags=allow-oom
-- Remove dead tasks for good.
-- KEYS: dead tasks attempts lost levels errors limits
-- ARGV: ids
-- Returns the ids that were dead
local dead, found = KEYS[1], {}
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', dead, id) == 1 then found[#found + 1] = id end
end
for at = 2, #KEYS do call_with('HDEL', KEYS[at], found) end
return found
