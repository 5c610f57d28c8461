#!lua flags=allow-oom
-- Remove dead tasks for good.
-- KEYS: dead members outbox tasks attempts lost levels errors limits
-- ARGV: ids
-- Returns the ids that were dead
local dead, members, outbox, found = KEYS[1], KEYS[2], KEYS[3], {}
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', dead, id) == 1 then found[#found + 1] = id end
end
part_with(members, outbox, found, 'discarded')
for at = 4, #KEYS do call_with('HDEL', KEYS[at], found) end
return found
