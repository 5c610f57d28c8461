#!lua flags=allow-oom
-- Read the oldest entries of the inbox one by one, up to a number of bytes. Of an entry that is larger than a task may be, only the
-- beginnings of its first fields: the worker must not load what any producer sends.
-- KEYS: inbox
-- ARGV: entries_at_once bytes_at_once most_bytes most_fields (of one entry) shown_fields shown_bytes (of a larger one)
-- Returns for each: {id, bytes, number of fields, {name, value, ...}}
local count, total, most_bytes, most_fields = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local shown_fields, shown_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])

local reply, after = {}, '-'
local HIGHEST = '18446744073709551615-18446744073709551615'  -- none comes after it, and to ask for one is an error
while #reply < count and total > 0 and after ~= '(' .. HIGHEST do
  local entry = redis.call('XRANGE', inbox, after, '+', 'COUNT', 1)[1]
  if not entry then break end
  local id, flat, bytes = entry[1], entry[2], 0
  for _, text in ipairs(flat) do bytes = bytes + #text end
  local fields = #flat / 2
  if bytes > most_bytes or fields > most_fields then
    local shown = {}
    for at = 1, math.min(#flat, shown_fields * 2) do shown[at] = string.sub(flat[at], 1, shown_bytes) end
    flat, total = shown, 0  -- one at a time
  end
  reply[#reply + 1] = {id, bytes, fields, flat}
  after, total = '(' .. id, total - bytes
end
return reply
