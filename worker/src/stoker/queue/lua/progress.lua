#!lua flags=allow-oom
-- Write progress and log lines of running tasks. Refused for a delivery that has lost its lease. Lines are numbered within a delivery,
-- so repeated ones are kept once.
-- KEYS: owners progress logs stats
-- ARGV: most_lines most_bytes, then for each delivery: id fence progress (JSON, '' = unchanged) first (number of its first new line)
--       how many lines, the lines (JSON)
-- Returns for each delivery: 1 kept | 0 refused
local most_lines, most_bytes, at = tonumber(ARGV[1]), tonumber(ARGV[2]), 3
local reply, stale = {}, 0

local function keep_lines(id, fence, first, last, from)
  local whose, known, text = string.match(redis.call('HGET', logs, id) or '', '^(%S+) (%d+)\n(.*)$')
  known, text = whose == fence and tonumber(known) or 0, text or ''
  for number = math.max(first, known + 1), last do
    text = text .. (text == '' and '' or '\n') .. ARGV[from + number - first]
  end
  local _, breaks = string.gsub(text, '\n', '')
  while breaks > 0 and (breaks >= most_lines or #text > most_bytes) do
    text, breaks = string.match(text, '\n(.*)$'), breaks - 1
  end
  redis.call('HSET', logs, id, fence .. string.format(' %.0f\n', math.max(last, known)) .. text)
end

while ARGV[at] do
  local id, fence, news, first, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if owned_rank(redis.call('HGET', owners, id), fence) then
    if news ~= '' then redis.call('HSET', progress, id, fence .. ' ' .. news) end
    if count > 0 then keep_lines(id, fence, first, first + count - 1, at + 5) end
    reply[#reply + 1] = 1
  else
    reply[#reply + 1], stale = 0, stale + 1
  end
  at = at + 5 + count
end
if stale > 0 then redis.call('HINCRBY', stats, 'stale_settles', stale) end
return reply
