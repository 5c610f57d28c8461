-- Makes due tasks ready, ranked by their due time. Returns how many.
local function promote(now, limit)
  local due = redis.call('ZRANGEBYSCORE', scheduled, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
  if #due == 0 then return 0 end

  local ids, rows = {}, {}
  for at = 1, #due, 2 do ids[#ids + 1] = due[at] end
  local level = columns(levels, ids)
  for at, id in ipairs(ids) do
    rows[#rows + 1], rows[#rows + 2] = rank_at(tonumber(level[at] or 0), tonumber(due[at * 2])), id
  end
  call_with('ZREM', scheduled, ids)
  call_with('HDEL', levels, ids)
  make_ready(rows)
  record_all('promoted', ids)
  return #ids
end
