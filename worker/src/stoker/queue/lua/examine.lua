#!lua flags=allow-oom
-- Hold tasks to the rule that each is in exactly one place and has an envelope; mend what is not, if asked to.
-- KEYS: tasks ready suspects scheduled leases dead done cancelled owners attempts lost levels errors results cancels meta stats wake uniques claims
--       history progress logs limits running_by parked parked_by
-- ARGV: mend (0|1), then ids
-- Returns for each id: '' (sound) | 'nowhere' | 'without envelope' | 'in two places' | 'owner without lease' | 'stray claim'
--       | 'concurrency out of step' (running or parked, and its key does not know it, or the other way round)
local PLACES, ENDED = {2, 3, 4, 5, 6, 7, 8, 26}, {[KEYS[6]] = true, [KEYS[7]] = true, [KEYS[8]] = true}
local COLUMNS = {1, 9, 10, 11, 12, 13, 14, 15, 21, 22, 23, 24}
local tasks, ready, leases, owners, meta, stats, wake = KEYS[1], KEYS[2], KEYS[5], KEYS[9], KEYS[16], KEYS[17], KEYS[18]
local uniques, claims = KEYS[19], KEYS[20]
local p, suspects, lost = parking(KEYS), KEYS[3], KEYS[11]

-- A claim is held by a task that has not ended, and the other way round.
local function stray_claim(id, place)
  local claim = redis.call('HGET', claims, id)
  if not claim then return false end
  local held = redis.call('HGET', uniques, string.sub(claim, 3))
  return ENDED[place] or not held or string.match(held, ' (.+)$') ~= id
end

-- A key knows exactly those of its tasks that run and those that are parked.
local function out_of_step(id, limit, leased)
  local place = redis.call('ZSCORE', p.places, id)
  if not limit then return place and true or false end
  local slot, turn = redis.call('ZSCORE', p.running, slot_of(limit, id)), place and redis.call('ZSCORE', p.line, turn_of(limit, tonumber(place), id))
  return (slot and true or false) ~= (leased and true or false) or (place and not turn)
end

-- Parked ones stand in line again, which is never wrong: fetching decides anew.
local function set_right(id, limit, leased)
  local place = redis.call('ZSCORE', p.places, id)
  if place then
    if limit then leave_parking(p, limit, tonumber(place), id) else redis.call('ZREM', p.places, id) end
    line_up(ready, suspects, lost, {place, id})
    wake_one(wake)
  end
  if not limit then return end
  if leased then
    redis.call('ZADD', p.running, 0, slot_of(limit, id))
  elseif make_way(p, {[id] = limit}, {id}, ready, suspects, lost) > 0 then
    wake_one(wake)
  end
end

local mend, reply, mended = ARGV[1] == '1', {}, 0
local limits = limits_of(p, {unpack(ARGV, 2)})
for at = 2, #ARGV do
  local id, found = ARGV[at], {}
  for _, place in ipairs(PLACES) do
    if redis.call('ZSCORE', KEYS[place], id) then found[#found + 1] = KEYS[place] end
  end
  local envelope = redis.call('HEXISTS', tasks, id) == 1
  local owned, leased = redis.call('HEXISTS', owners, id) == 1, redis.call('ZSCORE', leases, id)
  local trouble = ''

  if not envelope then
    trouble = 'without envelope'
    if mend then
      free_claims(uniques, claims, {id})
      for _, place in ipairs(PLACES) do redis.call('ZREM', KEYS[place], id) end
      for _, column in ipairs(COLUMNS) do redis.call('HDEL', KEYS[column], id) end
    end
  elseif #found == 0 then
    trouble = 'nowhere'
    if mend then
      redis.call('HDEL', owners, id)
      redis.call('ZADD', ready, place_at(tonumber(redis.call('HGET', KEYS[12], id) or 0), now_ms(meta)), id)
      redis.call('HDEL', KEYS[12], id)
      wake_one(wake)
    end
  elseif #found > 1 then
    -- Running twice is allowed, losing is not: the first of the places in the order of KEYS is the liveliest.
    trouble = 'in two places'
    if mend then
      local keep = leased and owned and leases or found[1]
      for _, place in ipairs(found) do
        if place ~= keep then redis.call('ZREM', place, id) end
      end
      if keep ~= leases then redis.call('HDEL', owners, id) end
    end
  elseif owned and not leased then
    trouble = 'owner without lease'
    if mend then redis.call('HDEL', owners, id) end
  elseif stray_claim(id, found[1]) then
    trouble = 'stray claim'
    if mend then free_claims(uniques, claims, {id}) end
  elseif out_of_step(id, limits[id], leased) then
    trouble = 'concurrency out of step'
    if mend then set_right(id, limits[id], leased) end
  end
  if mend and trouble ~= '' then
    mended = mended + 1
    local limit, lies_parked = limits[id], redis.call('ZSCORE', p.places, id)
    if limit and not envelope then
      if make_way(p, {[id] = limit}, {id}, ready, suspects, lost) > 0 then wake_one(wake) end
    elseif out_of_step(id, limit, redis.call('ZSCORE', leases, id)) or lies_parked then
      set_right(id, limit, redis.call('ZSCORE', leases, id))
    end
  end
  reply[#reply + 1] = trouble
end
if mended > 0 then redis.call('HINCRBY', stats, 'mended', mended) end
return reply
