-- The lifecycle log: one entry for each thing that happens to a task, written only while somebody watches. In the newest thousands
-- of entries those who watch find what they have not read yet.
local EVENTS_KEPT = 10000

local function tell(what, id, ...)
  if watched then redis.call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'what', what, 'id', id, ...) end
end

local function tell_all(what, ids)
  if watched then
    for _, id in ipairs(ids) do tell(what, id) end
  end
end
