-- Add tasks, each ready or scheduled. An id that exists already is left as it is.
-- KEYS: tasks ready scheduled levels meta stats wake
-- ARGV: then for each task: id envelope priority delay_ms due_ms
--       (delay_ms counts from Redis' now; due_ms is absolute; both 0 = ready at once)
-- Returns for each task: 'ready' | 'scheduled' | the envelope that has the id already
local tasks, ready, scheduled, levels, meta, stats, wake = unpack(KEYS)
local FIELDS = 5

local now = now_ms(meta)
local last = tonumber(redis.call('HGET', meta, 'arrival') or 0)
local tick = math.max((now - EPOCH_MS) * TICKS_PER_MS, last)
local reply, added, woken = {}, 0, false

for at = 1, #ARGV, FIELDS do
  local id, envelope, level = ARGV[at], ARGV[at + 1], -tonumber(ARGV[at + 2])
  local delay, due = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if delay > 0 then due = now + delay end

  if redis.call('HSETNX', tasks, id, envelope) == 0 then
    reply[#reply + 1] = redis.call('HGET', tasks, id)
  elseif due > now then
    redis.call('ZADD', scheduled, due, id)
    if level ~= 0 then redis.call('HSET', levels, id, level) end
    reply[#reply + 1], added = 'scheduled', added + 1
  else
    -- Counting up within a tick keeps FIFO exact for any id.
    tick = tick + 1
    redis.call('ZADD', ready, level * LEVEL + tick, id)
    reply[#reply + 1], added, woken = 'ready', added + 1, true
  end
end

if added > 0 then
  redis.call('HSET', meta, 'arrival', tick)
  redis.call('HINCRBY', stats, 'enqueued', added)
end
if woken then wake_one(wake) end
return reply
