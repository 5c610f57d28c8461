#!lua flags=allow-oom
-- The facts that decide when a task runs: tasks before it, what holds it back, and live workers.
-- KEYS: meta ready suspects scheduled cancels stats workers beats limits running_by parked parked_by announced
-- ARGV: id most_workers most_holders (how many of them are named)
-- Returns {now_ms, paused 0|1, come_back_ms (when the rate limit allows the next task; 0: not limiting), tasks before it (-1: not ready),
--          suspect 0|1, overdue tasks, when its cancellation was requested (ms, 0: never), rate * 1000, {reports of live workers}, live workers,
--          concurrency key or '', how many of it may run, {ids that run with it},
--          {templates of those workers that name one}, {names that each of these knows (JSON), '' for any}}
local id, most_workers, most_holders = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local now = now_ms()
local held = redis.call('HMGET', meta, 'paused', 'watch_until')
local limit = limits_of({id})[id]

local before = -1
local parked_at = limit and redis.call('ZSCORE', parked, id)
local rank = redis.call('ZSCORE', ready, id) or redis.call('ZSCORE', suspects, id)
if parked_at then
  before = redis.call('ZLEXCOUNT', parked_by, members_range(limit.key), '(' .. parked_member(limit, tonumber(parked_at), id))
elseif rank then
  before = redis.call('ZCOUNT', ready, '-inf', '(' .. rank) + redis.call('ZCOUNT', suspects, '-inf', '(' .. rank)
end

local alive_now = redis.call('ZRANGEBYSCORE', beats, now, '+inf', 'LIMIT', 0, most_workers)
local infos, named, seen = columns(workers, alive_now), {}, {}
for _, info in ipairs(infos) do
  local template = string.match(info or '', '"template":"([^"]*)"')
  if template and not seen[template] then named[#named + 1], seen[template] = template, true end
end
local their_names = columns(announced, named)
for index = 1, #named do their_names[index] = their_names[index] or '' end
local holders = {}
if limit then
  local from, to = members_range(limit.key)
  for _, slot in ipairs(redis.call('ZRANGEBYLEX', running_by, from, to, 'LIMIT', 0, most_holders)) do
    holders[#holders + 1] = string.sub(slot, #limit.key + 2)
  end
end
return {
  real, held[1] and 1 or 0, held[2] and tonumber(held[2]) > now and held[2] - now + real or 0, before,
  redis.call('ZSCORE', suspects, id) and 1 or 0, redis.call('ZCOUNT', scheduled, '-inf', real),
  tonumber(redis.call('HGET', cancels, id) or 0), math.floor(decayed_rate(now) * 1000),
  infos, redis.call('ZCOUNT', beats, now, '+inf'), limit and limit.key or '', limit and limit.most or 0, holders,
  named, their_names,
}
