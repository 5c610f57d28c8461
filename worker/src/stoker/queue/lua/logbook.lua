#!lua flags=allow-oom
-- Read the last entries of a logbook, newest first, at most `budget` bytes in all: what does not fit is left out.
-- KEYS: decisions audit
-- ARGV: book (one of the keys) limit budget
-- Returns {id, value of the field 'e', ...}
local BOOKS, budget, reply = {decisions = decisions, audit = audit}, tonumber(ARGV[3]), {}
local book = BOOKS[ARGV[1]]

if redis.call('TYPE', book).ok ~= 'stream' then return {} end
for _, entry in ipairs(redis.call('XREVRANGE', book, '+', '-', 'COUNT', ARGV[2])) do
  local field, value = entry[2][1], entry[2][2]
  if field == 'e' and #value <= budget then
    budget = budget - #value
    reply[#reply + 1], reply[#reply + 2] = entry[1], value
  end
end
return reply
