#!lua flags=allow-oom
-- Remove dead tasks for good.
-- KEYS: dead tasks attempts lost levels errors limits history progress logs meta events members outbox
-- ARGV: ids
-- Returns the ids that were dead
now_ms()
local found = {}
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', dead, id) == 1 then found[#found + 1] = id end
end
for _, column in ipairs({tasks, attempts, lost, levels, errors, limits, history, progress, logs}) do call_with('HDEL', column, found) end
part_with(found, 'discarded')
tell_all('discarded', found)
return found
