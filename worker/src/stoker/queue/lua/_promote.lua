-- When the next scheduled task falls due, on the real clock; -1 if none is scheduled.
local function first_due()
  local due = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2]
  if not due then return -1 end
  local ends = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  return math.min(due, ends and real + ends - attended or math.huge)
end

-- Makes due tasks ready, ranked by when they fell due on the monotone clock. A delay ends when the real clock says so, or when as much
-- time has passed beyond doubt. Returns how many.
local function promote(now, limit)
  local rows, ids, ranks, ended, seen = {}, {}, {}, {}, {}
  local function add(id, at) ids[#ids + 1], ranks[#ranks + 1], seen[id] = id, at, true end
  local due = redis.call('ZRANGEBYSCORE', scheduled, '-inf', real, 'WITHSCORES', 'LIMIT', 0, limit)
  for at = 1, #due, 2 do
    add(due[at], due[at + 1] + now - real)
    ended[#ended + 1] = delayed_member(due[at], due[at + 1])
  end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', attended, 'LIMIT', 0, limit - #ids)) do
    local id, its = string.match(member, '^(.*)' .. US .. '(%d+)$')
    if id and not seen[id] and tonumber(redis.call('ZSCORE', scheduled, id)) == tonumber(its) then add(id, now) end
    ended[#ended + 1] = member
  end
  call_with('ZREM', delayed, ended)
  if #ids == 0 then return 0 end

  for at, level in ipairs(columns(levels, ids)) do
    rows[#rows + 1], rows[#rows + 2] = rank_at(tonumber(level or 0), ranks[at]), ids[at]
  end
  call_with('ZREM', scheduled, ids)
  call_with('HDEL', levels, ids)
  make_ready(rows)
  record_all('promoted', ids)
  return #ids
end
