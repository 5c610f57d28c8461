#!lua flags=allow-oom
-- Make dead tasks ready, with fresh attempts. The last failure is kept.
-- KEYS: dead ready attempts lost levels meta stats wake events
-- ARGV: ids
-- Returns the ids that were dead

local now, found = now_ms(), {}
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', dead, id) == 1 then
    local level = tonumber(redis.call('HGET', levels, id) or 0)
    redis.call('ZADD', ready, rank_at(level, now), id)
    found[#found + 1] = id
  end
end
for _, column in ipairs({attempts, lost, levels}) do call_with('HDEL', column, found) end
if #found > 0 then
  redis.call('HINCRBY', stats, 'redriven', #found)
  wake_one()
  record_all('redriven', found)
end
return found
