-- The lifecycle log: one entry for each thing that happens to a task, written only while somebody watches. In the newest thousands
-- of entries those who watch find what they have not read yet.
local EVENTS_KEPT = 10000

local function tell(events, what, id, ...)
  if watched then redis.call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'what', what, 'id', id, ...) end
end

local function tell_all(events, what, ids)
  if watched then
    for _, id in ipairs(ids) do tell(events, what, id) end
  end
end
