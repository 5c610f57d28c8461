#!lua flags=allow-oom
-- Tasks with all their columns, in parts: of large ones only the first few are returned.
-- KEYS: tasks ready suspects leases scheduled dead done cancelled owners attempts lost errors results history progress logs
--       limits parked unclaimed
-- ARGV: with_logs (0|1) most_bytes (of a part, unless its first task has more) id ...
-- Returns for each of the first ids, at least one: {} |
--         {envelope, state, at_ms, fence, failures, losses, failure, result, the concurrency key it is parked for or '',
--          earlier failures (JSON, a line each) or '', progress of this run (JSON) or '', log lines (JSON, a line each) or '',
--          since when it is unclaimed (ms; 0: it is not)}
--         at_ms: expiry of the lease, due, buried at, or when the result expires; 0 when ready
local with_logs, most = ARGV[1] == '1', tonumber(ARGV[2])

local function found(id)
  local envelope = redis.call('HGET', tasks, id)
  if not envelope then return {} end

  local state, at = 'nowhere', 0
  for name, key in pairs({running = leases, scheduled = scheduled, dead = dead, succeeded = done, cancelled = cancelled}) do
    local score = redis.call('ZSCORE', key, id)
    if score then state, at = name, tonumber(score) end
  end
  if redis.call('ZSCORE', ready, id) or redis.call('ZSCORE', suspects, id) then state = 'ready' end
  local limit = redis.call('ZSCORE', parked, id) and limits_of({id})[id]
  local unclaimed_at = redis.call('ZSCORE', unclaimed, id)
  if limit or unclaimed_at then state = 'ready' end
  local owner = redis.call('HGET', owners, id)
  -- Progress of an earlier delivery does not count.
  local whose, news = string.match(redis.call('HGET', progress, id) or '', '^(%S+) (.*)$')
  if not whose or not owned_rank(owner, whose) then news = nil end
  return {
    envelope, state, at, owner and string.match(owner, '^(%S+)') or '',
    redis.call('HGET', attempts, id) or 0, redis.call('HGET', lost, id) or 0,
    redis.call('HGET', errors, id) or '', redis.call('HGET', results, id) or '',
    limit and limit.key or '', redis.call('HGET', history, id) or '',
    news or '', with_logs and string.match(redis.call('HGET', logs, id) or '', '\n(.*)$') or '',
    tonumber(unclaimed_at or 0),
  }
end

local reply, bytes = {}, 0
for at = 3, #ARGV do
  local columns = found(ARGV[at])
  for _, column in ipairs(columns) do bytes = bytes + #tostring(column) end
  if bytes > most and #reply > 0 then break end
  reply[#reply + 1] = columns
end
return reply
