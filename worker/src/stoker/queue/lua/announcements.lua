#!lua flags=allow-oom
-- Read what templates have announced, the latest first, at most `budget` bytes in all: what does not fit reads as ''.
-- KEYS: templates announced schemas
-- ARGV: most (templates) budget
-- Returns {template, names (JSON; '' = may know any), description ('' = none), ...}
local budget, reply = tonumber(ARGV[2]), {}

local function is(key, kind) return redis.call('TYPE', key).ok == kind end

local function within_budget(value)
  if not value or #value > budget then return '' end
  budget = budget - #value
  return value
end

local has_names, has_schemas = is(announced, 'hash'), is(schemas, 'hash')
for _, template in ipairs(is(templates, 'zset') and redis.call('ZREVRANGE', templates, 0, ARGV[1] - 1) or {}) do
  reply[#reply + 1] = within_budget(template)
  reply[#reply + 1] = within_budget(has_names and redis.call('HGET', announced, template))
  reply[#reply + 1] = within_budget(has_schemas and redis.call('HGET', schemas, template))
end
return reply
