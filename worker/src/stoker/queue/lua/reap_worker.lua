#!lua flags=allow-oom
-- Give back at once deliveries of workers that are known to have ended. A delivery that has ended meanwhile, or whose task another
-- worker has, is left alone.
-- KEYS: leases owners suspects dead cancelled cancels attempts lost levels errors meta stats wake uniques claims ready history events
--       members outbox workers beats limits running_by parked parked_by tasks hooks
-- ARGV: max_lost failure (JSON, kept for a buried task) how (in words) cause (a word, '' unknown) innocent (0|1: the losses do not count)
--       how many workers, their names, then for each delivery: id fence
-- Returns {given back, buried, forgotten workers}
local max_lost, failure, how, innocent = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[5] == '1'
local cause, FIRST_WORKER, FIRST = ARGV[4] ~= '' and ARGV[4] or nil, 7, 7 + ARGV[6]

local now, found, ids, owner, gone = now_ms(), {}, {}, {}, {}
for at = FIRST, #ARGV, 2 do found[#found + 1] = ARGV[at] end
for index, value in ipairs(columns(owners, found)) do
  if owned_rank(value, ARGV[FIRST + index * 2 - 1]) then
    ids[#ids + 1], owner[#owner + 1] = found[index], value
  end
end
local given_back, buried = reclaim(ids, owner, now, max_lost, failure, how, cause, innocent)

for at = FIRST_WORKER, FIRST - 1 do
  gone[#gone + 1] = ARGV[at]
  stop_minding(ARGV[at])
  stop_clearing(ARGV[at])
end
call_with('ZREM', beats, gone)
return {given_back, buried, call_with('HDEL', workers, gone)}
