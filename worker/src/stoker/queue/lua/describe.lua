#!lua
-- Store what a template says about its tasks beside their names (rules/announcement.py), once for all of its workers.
-- KEYS: templates schemas
-- ARGV: template digest description ('' = only ask)
-- Returns 1 if the description is wanted: the template is announced, and its stored one has another digest; else 0
local template, digest, description = ARGV[1], ARGV[2], ARGV[3]

if not redis.call('ZSCORE', templates, template) then return 0 end
local stored = redis.call('HGET', schemas, template) or ''
if string.sub(stored, 1, #digest + 1) == digest .. ' ' then return 0 end
if description ~= '' then redis.call('HSET', schemas, template, digest .. ' ' .. description) end
return 1
