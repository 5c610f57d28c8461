-- The inbox is the one key that other programs write: what is in it may be of any size, and its last id any.

-- Whether reading the first entry of a stream takes long: millions of fields take Redis seconds. In O(1): MEMORY USAGE with one sample
-- counts each node of the stream as large as the first, and a node has at most 100 entries, so a first node above 3 MB is found.
local BULKY, BULKY_ENTRY = 1024 * 1024, 16 * 1024
local function is_bulky(stream)
  return redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', 1) > BULKY + BULKY_ENTRY * redis.call('XLEN', stream)
end

-- A sender has chosen an id far ahead: the ids that follow say no time, and after the highest XADD is refused.
local AHEAD_MS = 3600 * 1000
local function is_far_ahead(id, now) return tonumber(string.match(id, '^%d+')) > now + AHEAD_MS end

-- Whether the inbox is empty, and its last id far ahead. Deleting it begins a new stream.
local function is_closed_inbox(now)
  if redis.call('XLEN', inbox) > 0 or redis.call('EXISTS', inbox) == 0 then return false end
  local about = redis.call('XINFO', 'STREAM', inbox)
  for at = 1, #about, 2 do
    if about[at] == 'last-generated-id' then return is_far_ahead(about[at + 1], now) end
  end
end
