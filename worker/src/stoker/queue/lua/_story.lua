-- What is kept of a task's past until it is forgotten: its last failures, in short, one a line, the newest last; with the progress
-- and the log lines that progress.lua writes.
local FAILURES_KEPT, WORDS_KEPT = 5, 300

-- The worker that a fence was given to.
local function worker_of(fence) return string.match(fence, '^%d+:([^:]*)') or '' end

local function in_short(text)
  if #text <= WORDS_KEPT then return text end
  return (string.gsub(string.sub(text, 1, WORDS_KEPT), '[\192-\255][\128-\191]*$', '')) .. '...'
end

local function remember(id, failure)
  local lines = redis.call('HGET', history, id)
  lines = (lines and lines .. '\n' or '') .. cjson.encode(failure)
  local _, breaks = string.gsub(lines, '\n', '')
  for _ = FAILURES_KEPT, breaks do lines = string.match(lines, '\n(.*)$') end
  redis.call('HSET', history, id, lines)
end

-- What a worker says of a failure, without its traceback. A text that nobody can read is kept all the same.
local function failure_of(body)
  local readable, failure = pcall(cjson.decode, body)
  if not readable or type(failure) ~= 'table' then return {type = 'Unreadable', message = in_short(body)} end
  return {type = in_short(tostring(failure.type)), message = in_short(tostring(failure.message))}
end

-- Where nobody's past is kept this is one EXISTS.
local function forget_story(ids)
  if #ids == 0 or redis.call('EXISTS', history, progress, logs) == 0 then return end
  for _, column in ipairs({history, progress, logs}) do call_with('HDEL', column, ids) end
end
