-- Add tasks, ready or scheduled. Skips a task whose id exists, or whose uniqueness another task claims.
-- KEYS: tasks ready scheduled delayed owners levels meta stats wake uniques claims limits events
-- ARGV: how many tasks hold a claim or have a concurrency key; for each of those: id mode (s until started, d until done, '' no
--       claim) digest ttl_ms limit (how many and the key, '' none);
--       then for each task: id envelope priority delay_ms due_ms
--       (delay_ms counts from Redis' now; due_ms is absolute; both 0 = ready at once)
-- Returns for each task: 'ready' | 'scheduled' | the envelope stored under this id | {the id that holds its claim}
local FIELDS, MARKED_FIELDS = 5, 5
local FIRST = 2 + ARGV[1] * MARKED_FIELDS

local now = now_ms()
local first = last_tick(now)
local tick = first
local reply, added, held_back, claim_of, limit_of = {}, 0, 0, {}, {}

for at = 2, FIRST - 1, MARKED_FIELDS do
  claim_of[ARGV[at]], limit_of[ARGV[at]] = marks_of(unpack(ARGV, at + 1, at + 4))
end

-- Fast path for several new tasks that are ready at once: one call for each key. Returns false if any is not.
local function add_all()
  if #ARGV < FIRST + FIELDS or FIRST > 2 then return false end
  local ids, rows, ranks, seen, count = {}, {}, {}, {}, 0
  for at = FIRST, #ARGV, FIELDS do
    local id = ARGV[at]
    if seen[id] or ARGV[at + 3] ~= '0' or ARGV[at + 4] ~= '0' then return false end
    count, seen[id] = count + 1, true
    ids[count], reply[count] = id, 'ready'
    rows[count * 2 - 1], rows[count * 2] = id, ARGV[at + 1]
    ranks[count * 2 - 1], ranks[count * 2] = rank_of(-ARGV[at + 2], tick + count), id
  end
  for _, there in ipairs(columns(tasks, ids)) do
    if there then return false end
  end
  call_with('HSET', tasks, rows)
  call_with('ZADD', ready, ranks)
  added, tick = count, tick + count
  if watched then
    for _, id in ipairs(ids) do record('enqueued', id, 'detail', 'ready') end
  end
  return true
end

local function add_each()
  reply = {}
  for at = FIRST, #ARGV, FIELDS do
    local id, envelope, level = ARGV[at], ARGV[at + 1], -tonumber(ARGV[at + 2])
    local delay, due, state = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), nil
    state, tick = admit(now, tick, id, envelope, level, delay, due, claim_of[id], limit_of[id])
    reply[#reply + 1] = state
    if state == 'ready' or state == 'scheduled' then
      added = added + 1
    elseif type(state) == 'table' then
      held_back = held_back + 1
    end
  end
end

if not add_all() then add_each() end

if added > 0 then
  redis.call('HSET', meta, 'arrival', tick)
  redis.call('HINCRBY', stats, 'enqueued', added)
end
if held_back > 0 then redis.call('HINCRBY', stats, 'deduplicated', held_back) end
if tick > first then wake_one() end
return reply
