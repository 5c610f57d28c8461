#!lua flags=allow-oom
-- Make due tasks ready, at most `limit`, and wake a worker.
-- KEYS: scheduled delayed levels ready suspects lost meta wake events
-- ARGV: limit
-- Returns {moved, next_due_ms (-1 none), now_ms}

local now = now_ms()
local moved = promote(now, tonumber(ARGV[1]))
if moved > 0 then wake_one() end
return {moved, first_due(), real}
