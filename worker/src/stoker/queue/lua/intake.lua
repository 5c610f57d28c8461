-- Move entries of the inbox into the queue, each exactly once: whoever takes an entry away puts its task in its place.
-- KEYS: inbox tasks ready scheduled dead levels errors meta stats wake events
-- ARGV: for each entry: entry_id verb id envelope priority delay_ms failure
--       verb: add | bury (failure = why it is no task) | drop (its task is there already)
-- Returns for each entry: 'ready' | 'scheduled' | 'dead' | 'dropped' | 'gone' (another took it)
--         | the envelope that has the id already: then the entry stays, and the caller says what it is
local inbox, tasks, ready, scheduled, dead, levels, errors, meta, stats, wake, events = unpack(KEYS)
local FIELDS = 7

local now = now_ms(meta)
local first = last_tick(now)
local reply, tick, buried, added = {}, first, 0, 0

for at = 1, #ARGV, FIELDS do
  local entry, verb, id, envelope = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local level, delay, state = -tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), nil
  local there = verb ~= 'drop' and redis.call('HGET', tasks, id)

  if there then
    state = there
  elseif redis.call('XDEL', inbox, entry) == 0 then
    state = 'gone'
  elseif verb == 'drop' then
    state = 'dropped'
  elseif verb == 'bury' then
    redis.call('HSET', tasks, id, envelope)
    redis.call('ZADD', dead, now, id)
    redis.call('HSET', errors, id, ARGV[at + 6])
    if level ~= 0 then redis.call('HSET', levels, id, level) end
    state, buried = 'dead', buried + 1
    tell(events, 'buried', id, 'detail', 'inbox')
  else
    redis.call('HSET', tasks, id, envelope)
    state, tick = take_place(ready, scheduled, levels, id, level, now + delay, now, tick)
    added = added + 1
    tell(events, 'enqueued', id, 'detail', state)
  end
  reply[#reply + 1] = state
end

if added > 0 then
  redis.call('HSET', meta, 'arrival', tick)
  redis.call('HINCRBY', stats, 'enqueued', added)
end
if buried > 0 then redis.call('HINCRBY', stats, 'buried', buried) end
if tick > first then wake_one(wake) end
return reply
