#!lua
-- Record an operation, or how far it is, in a ring of `slots`: a new one takes the place of the oldest.
-- KEYS: operations
-- ARGV: number ('' for a new one) slots operation (JSON)
-- Returns its number; -1: another has taken its place
local number, slots = tonumber(ARGV[1]), tonumber(ARGV[2])

if number then
  local kept = redis.call('HGET', operations, number % slots)
  if not kept or string.match(kept, '^%d+') ~= ARGV[1] then return -1 end
else
  number = redis.call('HINCRBY', operations, 'last', 1)
end
redis.call('HSET', operations, number % slots, string.format('%d %s', number, ARGV[3]))
return number
