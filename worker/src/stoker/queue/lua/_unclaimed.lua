-- Unclaimed tasks: a worker fetched them and does not know their name or version, nor does any other living worker. They wake no
-- worker until one announces the name. Values of unclaimed_as are "rank version template name", members of unclaimed_by
-- name US version US id: the tasks of one name are adjacent, sorted by version.
local BEATS_AT_ONCE, HIGHEST_VERSION = 1000, 9999999999

local function padded(version) return string.format('%010.0f', math.min(version, HIGHEST_VERSION)) end

-- {rank, version, template, name}; nothing if there is no such text.
local function unclaimed_parts(text)
  local rank, version, template, name = string.match(text or '', '^(%S+) (%d+) (%S+) (.*)$')
  return rank and {rank = tonumber(rank), version = tonumber(version), template = template, name = name}
end

local function unclaimed_member(aside, id) return aside.name .. US .. padded(aside.version) .. US .. id end

-- The members of unclaimed_by that are called `name`, of no higher version.
local function unclaimed_range(name, version) return '[' .. name .. US, '(' .. name .. US .. padded(version) .. ' ' end

-- The templates of living workers, as a set. '' stands for workers that name none: they are of an older version.
local alive
local function living_templates(now)
  if alive then return alive end
  local from, names = 0, nil
  alive = {}
  repeat
    names = redis.call('ZRANGEBYSCORE', beats, string.format('(%.0f', sure), '+inf', 'LIMIT', from, BEATS_AT_ONCE)
    for _, info in ipairs(columns(workers, names)) do alive[string.match(info or '', '"template":"([^"]*)"') or ''] = true end
    from = from + BEATS_AT_ONCE
  until #names < BEATS_AT_ONCE
  return alive
end

-- Whether a template's workers know this task. Those that have announced nothing readable may know any.
local names_of = {}
local function knows(template, name, version)
  if names_of[template] == nil then
    local readable, names = pcall(cjson.decode, redis.call('HGET', announced, template) or '')
    names_of[template] = readable and type(names) == 'table' and names or true
  end
  local names = names_of[template]
  return names == true or (tonumber(names[name]) or -1) >= version
end

-- Whether a living worker of another template knows the task that `body` ("version template name") describes.
local function known_elsewhere(now, body)
  local aside = unclaimed_parts('0 ' .. body)
  for template in pairs(living_templates(now)) do
    if template ~= aside.template and knows(template, aside.name, aside.version) then return true end
  end
  return false
end

local function set_aside(now, id, rank, body)
  local text = string.format('%.0f ', rank) .. body
  local aside = unclaimed_parts(text)
  redis.call('ZADD', unclaimed, now, id)
  redis.call('ZADD', unclaimed_by, 0, unclaimed_member(aside, id))
  redis.call('HSET', unclaimed_as, id, text)
  -- This template has seen it too: a worker more of it would not know it either.
  if tonumber(redis.call('ZSCORE', templates, aside.template) or 0) > 0 then redis.call('ZADD', templates, now, aside.template) end
end

-- These tasks are no longer unclaimed. Returns what unclaimed_parts does, by id, for those that were. One EXISTS if none is.
local function take_back(ids)
  local found = {}
  if #ids == 0 or redis.call('EXISTS', unclaimed_as) == 0 then return found end
  for index, text in ipairs(columns(unclaimed_as, ids)) do
    local id, aside = ids[index], unclaimed_parts(text)
    if aside then
      redis.call('ZREM', unclaimed, id)
      redis.call('ZREM', unclaimed_by, unclaimed_member(aside, id))
      found[id] = aside
    end
  end
  call_with('HDEL', unclaimed_as, ids)
  return found
end

-- Buries tasks that have been unclaimed for `age` ms.
local function bury_unclaimed(now, limit, age)
  local ids = redis.call('ZRANGEBYSCORE', unclaimed, '-inf', string.format('%.0f', now - age), 'LIMIT', 0, limit)
  local aside = take_back(ids)
  call_with('ZREM', unclaimed, ids)
  for _, id in ipairs(ids) do
    local was = aside[id] or {rank = rank_at(0, now), version = 0, name = '?'}
    local words = string.format("no worker knew a task named '%s', version %.0f, for %.1f days", shorten(was.name), was.version, age / 86400000)
    local attempt = (redis.call('HGET', attempts, id) or 0) + (redis.call('HGET', lost, id) or 0)
    local failure = cjson.encode({type = 'UnknownTask', message = words})
    local handlers = set_off_handlers(id, failure, 'unclaimed', attempt)
    add_failure(id, {at = real, attempt = attempt, worker = '', type = 'UnknownTask', message = words, handlers = handlers})
    redis.call('ZADD', dead, real, id)
    redis.call('HSET', errors, id, failure)
    if level_of(was.rank) ~= 0 then redis.call('HSET', levels, id, level_of(was.rank)) end
    record('buried', id)
  end
  if #ids > 0 then redis.call('HINCRBY', stats, 'buried', #ids) end
  free_claims(ids)
end
