#!lua
-- Add what a worker has counted since its last flush (rules/tally.py) to the rings of minutes, to its version and to the SLO. Repeated
-- after a lost reply, it counts once: the last flush of a worker is remembered, in one of a few hundred places that workers share.
-- KEYS: minutes versions stats meta
-- ARGV: worker number (of its flush) place version tasks (MessagePack: task -> tally) all (their sum) slo_started slo_in_time
--       format most_names other most_versions keep_ms, then for each ring: prefix period_ms slots
-- Returns the queue's max_wait in ms; -1: none is set
local version, place, flush = ARGV[4], 'f' .. ARGV[3], ARGV[1] .. ' ' .. ARGV[2]
local tasks_add, all_add = cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])
local FORMAT, MOST_NAMES, OTHER, MOST_VERSIONS, FIRST_RING = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], tonumber(ARGV[12]), 14
local MOST_COUNT = 2 ^ 53

-- A stored number; 0 for what is none, since another program wrote it.
local function count_of(value)
  local count = tonumber(value)
  return count and count >= 0 and count <= MOST_COUNT and count or 0
end

-- A stored map; nil for anything else. MessagePack, since reading JSON takes three times as long.
local function map_of(packed)
  local read, value = pcall(cmsgpack.unpack, packed or '')
  return read and type(value) == 'table' and value or nil
end

local function add(sums, counts)
  for name, count in pairs(counts) do sums[name] = count_of(sums[name]) + count end
end

local function add_to_period(period)
  local known = 0
  for _ in pairs(period.names) do known = known + 1 end
  for task, counts in pairs(tasks_add) do
    if type(period.names[task]) ~= 'table' then
      known = known + 1
      if known > MOST_NAMES then task = OTHER end
      if type(period.names[task]) ~= 'table' then period.names[task] = {} end
    end
    add(period.names[task], counts)
  end
end

now_ms()  -- minutes are moments: `real`
local max_wait = tonumber(redis.call('HGET', meta, 'max_wait') or '')
if not max_wait or max_wait < 0 or max_wait > MOST_COUNT then max_wait = -1 end
local again, slots, removed = redis.call('HGET', minutes, place) == flush, {place, flush}, {}
local slo = redis.call('HMGET', stats, 'slo_started', 'slo_in_time')
local seen = map_of(redis.call('HGET', versions, version))
if again then return max_wait end

for at = FIRST_RING, #ARGV, 3 do
  local number = math.floor(real / tonumber(ARGV[at + 1]))
  local field = ARGV[at] .. number % tonumber(ARGV[at + 2])
  local period = map_of(redis.call('HGET', minutes, field))
  if not period or period.at ~= number or count_of(period.v) < FORMAT or count_of(period.v) == FORMAT and type(period.names) ~= 'table' then
    period = {v = FORMAT, at = number, names = {}}
  end
  if count_of(period.v) == FORMAT and next(tasks_add) then
    add_to_period(period)
    slots[#slots + 1], slots[#slots + 2] = field, cmsgpack.pack(period)
  end
end

if not seen and redis.call('HLEN', versions) >= MOST_VERSIONS then
  local kept, order = redis.call('HGETALL', versions), {}
  for at = 1, #kept, 2 do order[#order + 1] = {name = kept[at], last = count_of((map_of(kept[at + 1]) or {}).last)} end
  table.sort(order, function(a, b) return a.last < b.last end)
  for at = 1, math.min(#order - MOST_VERSIONS + 1, 1000) do removed[at] = order[at].name end
end
if not seen or count_of(seen.v) < FORMAT or count_of(seen.v) == FORMAT and type(seen.counts) ~= 'table' then
  seen = {v = FORMAT, first = real, counts = {}}
end

call_with('HSET', minutes, slots)
redis.call('PEXPIRE', minutes, ARGV[13])
if count_of(seen.v) == FORMAT then
  add(seen.counts, all_add)
  seen.last = real
  call_with('HDEL', versions, removed)
  redis.call('HSET', versions, version, cmsgpack.pack(seen))
end
if tonumber(ARGV[7]) > 0 then
  redis.call('HSET', stats, 'slo_started', count_of(slo[1]) + ARGV[7], 'slo_in_time', count_of(slo[2]) + ARGV[8])
end
return max_wait
