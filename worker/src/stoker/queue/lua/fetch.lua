#!lua flags=allow-oom
-- Take the next tasks, by priority and then arrival, under a lease.
-- KEYS: ready leases owners tasks attempts lost levels scheduled meta stats wake
-- ARGV: worker nonce room lease_ms
-- Returns {now_ms, next_due_ms (-1 none), paused 0|1, first fence number,
--          then for each task: id envelope failures losses waited_ms}
local ready, leases, owners, tasks, attempts, lost, levels, scheduled, meta, stats, wake = unpack(KEYS)
local worker, nonce, room, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local PROMOTED_AT_ONCE = 100

local now = now_ms(meta)
if redis.call('HGET', meta, 'paused') then return {now, -1, 1, 0} end

promote(scheduled, levels, ready, now, PROMOTED_AT_ONCE)
local next_due = redis.call('ZRANGE', scheduled, 0, 0, 'WITHSCORES')[2]
local reply = {now, next_due and tonumber(next_due) or -1, 0, 0}

local popped = redis.call('ZPOPMIN', ready, room)
if #popped == 0 then return reply end

local ids, places = {}, {}
for at = 1, #popped, 2 do ids[#ids + 1], places[#places + 1] = popped[at], popped[at + 1] end
local envelopes, failures, losses = columns(tasks, ids), columns(attempts, ids), columns(lost, ids)
local last = redis.call('HINCRBY', meta, 'fence', #ids)
local expiry, leased, owned = now + lease, {}, {}
reply[4] = last - #ids + 1

for at, id in ipairs(ids) do
  if envelopes[at] then
    local fence = string.format('%016d:%s:%s', reply[4] + at - 1, worker, nonce)
    leased[#leased + 1], leased[#leased + 2] = expiry, id
    owned[#owned + 1], owned[#owned + 2] = id, fence .. ' ' .. places[at]
  else
    -- An id without an envelope cannot run; it is counted, never hidden.
    redis.call('HINCRBY', stats, 'invariant_violations', 1)
  end
  local n, waited = #reply, math.max(0, now - arrived_ms(tonumber(places[at])))
  reply[n + 1], reply[n + 2], reply[n + 3] = id, envelopes[at] or '', failures[at] or 0
  reply[n + 4], reply[n + 5] = losses[at] or 0, waited
end
call_with('ZADD', leases, leased)
call_with('HSET', owners, owned)

-- There is more than this worker can hold: wake the next one.
if redis.call('EXISTS', ready) == 1 then wake_one(wake) end
return reply
