#!lua flags=allow-oom
-- Delete dead tasks.
-- KEYS: dead tasks attempts lost levels errors limits history progress logs meta events members outbox
-- ARGV: ids
-- Returns the ids that were dead
now_ms()
local found = {}
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', dead, id) == 1 then found[#found + 1] = id end
end
for _, column in ipairs({tasks, attempts, lost, levels, errors, limits, history, progress, logs}) do call_with('HDEL', column, found) end
report_gone_members(found, 'discarded')
record_all('discarded', found)
return found
