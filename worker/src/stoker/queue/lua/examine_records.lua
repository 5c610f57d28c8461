#!lua flags=allow-oom
-- Judge a record beside the tasks, and remove what no reader takes. What has changed since it was read is left alone.
-- KEYS: minutes versions decisions audit announced schemas hooks stats
-- ARGV: mend 0|1 record (one of the keys) type (that it must have), then pairs of what was read: field and value; of a stream, id and ''
-- Returns {'type' (the key is of another type) | '', for each pair: 1 if it is still there, else 0}
local KEYS_OF = {
  minutes = minutes, versions = versions, decisions = decisions, audit = audit, announced = announced, schemas = schemas, hooks = hooks,
}
local mend, key, expected, FIRST = ARGV[1] == '1', KEYS_OF[ARGV[2]], ARGV[3], 4
local reply, gone = {''}, {}

local kind = redis.call('TYPE', key).ok
if kind == 'none' then return reply end
if kind ~= expected then
  if mend then
    redis.call('UNLINK', key)
    redis.call('HINCRBY', stats, 'mended', 1)
  end
  return {'type'}
end

for at = FIRST, #ARGV, 2 do
  local there
  if kind == 'hash' then
    there = redis.call('HGET', key, ARGV[at]) == ARGV[at + 1]
  else
    there = #redis.call('XRANGE', key, ARGV[at], ARGV[at]) > 0
  end
  reply[#reply + 1] = there and 1 or 0
  if there then gone[#gone + 1] = ARGV[at] end
end
if mend and #gone > 0 then
  call_with(kind == 'hash' and 'HDEL' or 'XDEL', key, gone)
  redis.call('HINCRBY', stats, 'mended', #gone)
end
return reply
