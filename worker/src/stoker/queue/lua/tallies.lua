#!lua flags=allow-oom
-- Read the records that tally.lua writes, the newest first, and of the periods at most `budget` bytes: what does not fit is left out.
-- KEYS: minutes versions stats meta
-- ARGV: budget most_versions, then for each ring: prefix period_ms slots
-- Returns {now_ms, max_wait ('' none), slo_started, slo_in_time, {version record ...}, for each ring: {value of a period ...}}
local budget, MOST_VERSIONS, FIRST_RING = tonumber(ARGV[1]), tonumber(ARGV[2]), 3

local function is_hash(key) return redis.call('TYPE', key).ok == 'hash' end

local function within_budget(value)
  if not value or #value > budget then return '' end
  budget = budget - #value
  return value
end

local now, reply = now_ms(), {}
local slo = is_hash(stats) and redis.call('HMGET', stats, 'slo_started', 'slo_in_time') or {}
local known, kept = {}, is_hash(versions) and redis.call('HLEN', versions) <= MOST_VERSIONS and redis.call('HGETALL', versions) or {}
for at = 1, #kept do known[at] = within_budget(kept[at]) end

for at = FIRST_RING, #ARGV, 3 do
  local newest, slots, fields, values = math.floor(now / tonumber(ARGV[at + 1])), tonumber(ARGV[at + 2]), {}, {}
  for age = 0, slots - 1 do fields[#fields + 1] = ARGV[at] .. (newest - age) % slots end
  local found = is_hash(minutes) and redis.call('HMGET', minutes, unpack(fields)) or {}
  for index = 1, #found do values[index] = within_budget(found[index]) end
  reply[#reply + 1] = values
end
local max_wait = redis.call('HGET', meta, 'max_wait') or ''
return {now, within_budget(max_wait), within_budget(slo[1]), within_budget(slo[2]), known, unpack(reply)}
