#!lua flags=allow-oom
-- Remove dead tasks for good.
-- KEYS: dead tasks attempts lost levels errors limits history progress logs meta events members outbox
-- ARGV: ids
-- Returns the ids that were dead
local dead, meta, events, FIRST_COLUMN, LAST_COLUMN = KEYS[1], KEYS[11], KEYS[12], 2, 10

now_ms(meta)
local found = {}
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', dead, id) == 1 then found[#found + 1] = id end
end
for at = FIRST_COLUMN, LAST_COLUMN do call_with('HDEL', KEYS[at], found) end
part_with(KEYS[13], KEYS[14], found, 'discarded')
tell_all(events, 'discarded', found)
return found
