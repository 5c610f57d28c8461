#!lua flags=allow-oom
-- Turn entries of a stream into tasks, each exactly once: the entry is deleted and its task added in one step.
-- KEYS: inbox outbox tasks ready scheduled delayed owners dead levels errors meta stats wake events uniques claims limits
-- ARGV: stream (inbox|outbox), then for each entry: entry_id verb id envelope priority delay_ms due_ms failure claim_mode digest ttl_ms limit
--       verb: add | bury (as dead, with `failure`) | drop (its task exists already)
--       claim_mode: s until started, d until done, '' no claim; limit: how many and the concurrency key, '' none
-- Returns for each entry: 'ready' | 'scheduled' | 'dead' | 'dropped' (also if another task holds its claim) | 'gone' (another call took it)
--         | the envelope stored under this id: then the entry stays, and the caller decides
local stream, FIRST, FIELDS = ARGV[1] == 'outbox' and outbox or inbox, 2, 12

local now = now_ms()
local first = last_tick(now)
local reply, tick, buried, added, held_back = {}, first, 0, 0, 0

for at = FIRST, #ARGV, FIELDS do
  local entry, verb, id, envelope = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local level, delay, due, state = -tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), nil
  local there = verb ~= 'drop' and redis.call('HGET', tasks, id)

  if there then
    state = there
  elseif redis.call('XDEL', stream, entry) == 0 then
    state = 'gone'
  elseif verb == 'drop' then
    state = 'dropped'
  elseif verb == 'bury' then
    redis.call('HSET', tasks, id, envelope)
    redis.call('ZADD', dead, real, id)
    redis.call('HSET', errors, id, ARGV[at + 7])
    if level ~= 0 then redis.call('HSET', levels, id, level) end
    state, buried = 'dead', buried + 1
    record('buried', id, 'detail', 'inbox')
  else
    state, tick = admit(now, tick, id, envelope, level, delay, due, marks_of(unpack(ARGV, at + 8, at + 11)))
    if type(state) == 'table' then
      state, held_back = 'dropped', held_back + 1
    else
      added = added + 1
    end
  end
  reply[#reply + 1] = state
end

if added > 0 then
  redis.call('HSET', meta, 'arrival', tick)
  redis.call('HINCRBY', stats, 'enqueued', added)
end
if held_back > 0 then redis.call('HINCRBY', stats, 'deduplicated', held_back) end
if buried > 0 then redis.call('HINCRBY', stats, 'buried', buried) end
if tick > first then wake_one() end
return reply
