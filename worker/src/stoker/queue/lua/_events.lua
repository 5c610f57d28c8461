-- The stream of events: one entry for each thing that happens to a task, written only while the queue is watched. Watchers read
-- continuously, so the newest entries suffice.
local EVENTS_KEPT = 10000

local function record(what, id, ...)
  if watched then redis.call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'what', what, 'id', id, ...) end
end

local function record_all(what, ids)
  if watched then
    for _, id in ipairs(ids) do record(what, id) end
  end
end
