#!lua flags=allow-oom
-- Store the names that a template's workers know and the handlers of their deaths, and make ready the unclaimed tasks among them.
-- KEYS: templates announced schemas unclaimed unclaimed_by unclaimed_as ready suspects lost meta wake workers beats hooks
-- ARGV: template names (JSON: name -> version; '' = may know any) limit (how many become ready)
--       hooks (JSON: name -> step; '' = an older worker, which knows of none)
-- Returns {how many became ready, 1 if more are to become ready: call again, else 0}
local template, names, limit, handlers = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] or ''
local TEMPLATES_KEPT = 50

local now, ids, rows = now_ms(), {}, {}
redis.call('ZADD', templates, 'NX', 0, template)
redis.call('HSET', announced, template, names)
local known = names ~= '' and cjson.decode(names) or {}
if handlers ~= '' then set_hooks(template, known, cjson.decode(handlers)) end

local function find(from, to)
  local entries = redis.call('ZRANGEBYLEX', unclaimed_by, from, to, 'LIMIT', 0, limit - #ids)
  for _, entry in ipairs(entries) do ids[#ids + 1] = string.match(entry, '[^' .. US .. ']+$') end
  call_with('ZREM', unclaimed_by, entries)
end
if redis.call('EXISTS', unclaimed_by) == 1 then
  if names == '' then find('-', '+') end
  for name, version in pairs(known) do
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
  local living, gone = living_templates(now), {}
  for _, old in ipairs(redis.call('ZRANGE', templates, 0, -TEMPLATES_KEPT - 1)) do
    if not living[old] then
      redis.call('ZREM', templates, old)
      redis.call('HDEL', announced, old)
      redis.call('HDEL', schemas, old)
      gone[old] = true
    end
  end
  forget_hooks(function(_, owner) return gone[owner] end)
end
return {#rows / 2, 0}
