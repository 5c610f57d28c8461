#!lua flags=allow-oom
-- The members that a join still waits for.
-- KEYS: waiting arrivals
-- ARGV: id of the join, how many members to name at most
-- Returns {} if no such join waits | {total, missing, then numbers of missing members}
local id, most = ARGV[1], tonumber(ARGV[2])

local missing, total = string.match(redis.call('HGET', waiting, id) or '', '^(%d+) %d+ %S+ (%d+)$')
if not missing then return {} end
local reply = {tonumber(total), tonumber(missing)}
each_batch(id, tonumber(total), function(names)
  if #reply >= most + 2 then return end
  for index, value in ipairs(columns(arrivals, names)) do
    if not value and #reply < most + 2 then reply[#reply + 1] = tonumber(string.match(names[index], '%d+$')) end
  end
end)
return reply
