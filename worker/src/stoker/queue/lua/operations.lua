#!lua flags=allow-oom
-- Read the ring of operations, at most `budget` bytes in all: what does not fit is left out.
-- KEYS: operations
-- ARGV: slots budget
-- Returns {operation ...}, in the order of the slots
local budget, reply = tonumber(ARGV[2]), {}

if redis.call('TYPE', operations).ok ~= 'hash' then return {} end
for slot = 0, ARGV[1] - 1 do
  local value = redis.call('HGET', operations, slot)
  if value and #value <= budget then
    budget = budget - #value
    reply[#reply + 1] = value
  end
end
return reply
