#!lua flags=allow-oom
-- Store the names that a template's workers know, and make ready the unclaimed tasks among them.
-- KEYS: templates announced schemas unclaimed unclaimed_by unclaimed_as ready suspects lost meta wake workers beats
-- ARGV: template names (JSON: name -> version; '' = may know any) limit (how many become ready)
-- Returns {how many became ready, 1 if more are to become ready: call again, else 0}
local template, names, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local TEMPLATES_KEPT = 50

local now, ids, rows = now_ms(), {}, {}
redis.call('ZADD', templates, 'NX', 0, template)
redis.call('HSET', announced, template, names)

local function find(from, to)
  local entries = redis.call('ZRANGEBYLEX', unclaimed_by, from, to, 'LIMIT', 0, limit - #ids)
  for _, entry in ipairs(entries) do ids[#ids + 1] = string.match(entry, '[^' .. US .. ']+$') end
  call_with('ZREM', unclaimed_by, entries)
end
if redis.call('EXISTS', unclaimed_by) == 1 then
  if names == '' then find('-', '+') end
  for name, version in pairs(names ~= '' and cjson.decode(names) or {}) do
    if #ids < limit then find(unclaimed_range(name, version)) end
  end
end
for id, aside in pairs(take_back(ids)) do rows[#rows + 1], rows[#rows + 2] = aside.rank, id end
make_ready(rows)
if #rows > 0 then wake_one() end
if #ids == limit then return {#rows / 2, 1} end

-- What is unclaimed still, this template does not know: it has seen it.
redis.call('ZADD', templates, now, template)
if redis.call('ZCARD', templates) > TEMPLATES_KEPT then
  local living = living_templates(now)
  for _, old in ipairs(redis.call('ZRANGE', templates, 0, -TEMPLATES_KEPT - 1)) do
    if not living[old] then
      redis.call('ZREM', templates, old)
      redis.call('HDEL', announced, old)
      redis.call('HDEL', schemas, old)
    end
  end
end
return {#rows / 2, 0}
