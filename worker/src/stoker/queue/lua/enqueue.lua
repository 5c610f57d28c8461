-- Add tasks, each ready or scheduled. An id that exists already is left as it is; so is a task whose kind another one claims.
-- KEYS: tasks ready scheduled levels meta stats wake uniques claims limits events
-- ARGV: how many tasks claim to be the only one of their kind; for each of those: id mode (s until started, d until done)
--       digest ttl_ms; how many have a concurrency key; for each of those: id limit key;
--       then for each task: id envelope priority delay_ms due_ms
--       (delay_ms counts from Redis' now; due_ms is absolute; both 0 = ready at once)
-- Returns for each task: 'ready' | 'scheduled' | the envelope that has the id already | {the id that holds its claim}
local tasks, ready, scheduled, levels, meta, stats, wake, uniques, claims, limits, events = unpack(KEYS)
local FIELDS, CLAIM_FIELDS, LIMIT_FIELDS = 5, 4, 3
local LIMITS = 2 + ARGV[1] * CLAIM_FIELDS
local FIRST = LIMITS + 1 + ARGV[LIMITS] * LIMIT_FIELDS

local now = now_ms(meta)
local first, state = last_tick(meta, now), nil
local tick = first
local reply, added, held_back, claim_of, limit_of = {}, 0, 0, {}, {}

for at = 2, LIMITS - 1, CLAIM_FIELDS do
  claim_of[ARGV[at]] = {mode = ARGV[at + 1], digest = ARGV[at + 2], ttl = tonumber(ARGV[at + 3])}
end
for at = LIMITS + 1, FIRST - 1, LIMIT_FIELDS do limit_of[ARGV[at]] = ARGV[at + 1] .. ' ' .. ARGV[at + 2] end

-- Who holds it, while its time lasts and it has not ended; else it is free, and a stale holder forgets it.
local function holder_of(digest)
  local held = redis.call('HGET', uniques, digest)
  local expires, holder = string.match(held or '', '^(%d+) (.+)$')
  if not holder then return end
  if tonumber(expires) > now and redis.call('HEXISTS', tasks, holder) + redis.call('HEXISTS', claims, holder) == 2 then
    return holder
  end
  redis.call('HDEL', claims, holder)
end

for at = FIRST, #ARGV, FIELDS do
  local id, envelope, level = ARGV[at], ARGV[at + 1], -tonumber(ARGV[at + 2])
  local delay, due = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if delay > 0 then due = now + delay end
  local claim = claim_of[id]
  -- The same id again is a repeated call, whoever holds the claim.
  local holder = claim and redis.call('HEXISTS', tasks, id) == 0 and holder_of(claim.digest)

  if holder then
    reply[#reply + 1], held_back = {holder}, held_back + 1
  elseif redis.call('HSETNX', tasks, id, envelope) == 0 then
    reply[#reply + 1] = redis.call('HGET', tasks, id)
  else
    if claim then
      redis.call('HSET', uniques, claim.digest, string.format('%.0f ', math.max(due, now) + claim.ttl) .. id)
      redis.call('HSET', claims, id, claim.mode .. ' ' .. claim.digest)
    end
    if limit_of[id] then redis.call('HSET', limits, id, limit_of[id]) end
    state, tick = take_place(ready, scheduled, levels, id, level, due, now, tick)
    reply[#reply + 1], added = state, added + 1
    tell(events, 'enqueued', id, 'detail', state)
  end
end

if added > 0 then
  redis.call('HSET', meta, 'arrival', tick)
  redis.call('HINCRBY', stats, 'enqueued', added)
end
if held_back > 0 then redis.call('HINCRBY', stats, 'deduplicated', held_back) end
if tick > first then wake_one(wake) end
return reply
