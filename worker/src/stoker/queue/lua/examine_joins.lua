#!lua flags=allow-oom
-- Check the counts of joins; repair them with `mend`. Whether missing members still exist is checked in reads/doctor/joins.py.
-- KEYS: tasks ready scheduled delayed owners levels dead cancelled errors meta stats wake uniques claims limits outbox members joins waiting arrivals events
-- ARGV: mend (0|1), then ids of joins, so many that their members are at most some thousands
-- Returns for each: '' (sound, or over) | 'join already run' | 'join without successor' | 'wrong join count'
local mend, reply, items, mended = ARGV[1] == '1', {}, {}, 0
local now = now_ms()

-- How many members have arrived, and the bytes of their results.
local function arrived(id, total)
  local count, bytes = 0, 0
  each_batch(id, total, function(names)
    for _, value in ipairs(columns(arrivals, names)) do
      if value then count, bytes = count + 1, bytes + #value + 1 end
    end
  end)
  return count, bytes
end

local function examined(id)
  local row, waits = redis.call('HGET', joins, id), redis.call('HGET', waiting, id)
  if not row and not waits then return '' end
  if not row then
    return 'join without successor', function()
      redis.call('HDEL', waiting, id)
      each_batch(id, tonumber(string.match(waits, '%d+$')) or 0, function(names) call_with('HDEL', arrivals, names) end)
    end
  end
  if redis.call('HEXISTS', tasks, id) == 1 then
    return 'join already run', function() close_join(id, row) end
  end
  local total, most = parts(row, 3)
  local here, bytes = arrived(id, tonumber(total))
  local missing, said = string.match(waits or '', '^(%d+) (%d+) %S+ %d+$')
  if tonumber(missing) == total - here and total - here > 0 then return '' end
  return 'wrong join count', function()
    local limit = string.find(row, HOLE, 1, true) and most or '-1'
    redis.call('HSET', waiting, id, string.format('%.0f %.0f %s %s', total - here, math.max(bytes, tonumber(said or 0)), limit, total))
    if tonumber(total) == here then items[#items + 1] = {id, math.max(bytes, tonumber(said or 0))} end
  end
end

for at = 2, #ARGV do
  local trouble, repair = examined(ARGV[at])
  if mend and trouble ~= '' then
    repair()
    mended = mended + 1
  end
  reply[#reply + 1] = trouble
end
-- Joins whose members have all arrived.
performing(now, function(tick)
  for _, due in ipairs(items) do tick = complete(now, tick, due[1], due[2]) end
  return tick
end)
if mended > 0 then redis.call('HINCRBY', stats, 'mended', mended) end
return reply
