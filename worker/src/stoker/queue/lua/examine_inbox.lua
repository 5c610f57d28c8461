#!lua flags=allow-oom
-- Check that programs can add to the inbox and that their ids say a time; repair it with `mend`, if it is empty.
-- KEYS: inbox meta stats
-- ARGV: mend (0|1)
-- Returns 'sound' (or too large to see) | 'far ahead' | 'mended'
local now = now_ms()
if redis.call('XLEN', inbox) > 0 then
  if is_bulky(inbox) then return 'sound' end
  return is_far_ahead(redis.call('XREVRANGE', inbox, '+', '-', 'COUNT', 1)[1][1], now) and 'far ahead' or 'sound'
end
if not is_closed_inbox(now) then return 'sound' end
if ARGV[1] ~= '1' then return 'far ahead' end
redis.call('DEL', inbox)
redis.call('HINCRBY', stats, 'mended', 1)
return 'mended'
