-- A task's history, kept until the task is deleted: its last failures, shortened, one per line, newest last; the progress and log
-- lines that progress.lua writes.
local FAILURES_KEPT, WORDS_KEPT = 5, 300

-- The worker in a fence.
local function worker_of(fence) return string.match(fence, '^%d+:([^:]*)') or '' end

local function shorten(text)
  if #text <= WORDS_KEPT then return text end
  return (string.gsub(string.sub(text, 1, WORDS_KEPT), '[\192-\255][\128-\191]*$', '')) .. '...'
end

local function add_failure(id, failure)
  local lines = redis.call('HGET', history, id)
  lines = (lines and lines .. '\n' or '') .. cjson.encode(failure)
  local _, breaks = string.gsub(lines, '\n', '')
  for _ = FAILURES_KEPT, breaks do lines = string.match(lines, '\n(.*)$') end
  redis.call('HSET', history, id, lines)
end

-- A failure without its traceback. An unreadable one keeps its text.
local function failure_of(body)
  local readable, failure = pcall(cjson.decode, body)
  if not readable or type(failure) ~= 'table' then return {type = 'Unreadable', message = shorten(body)} end
  return {type = shorten(tostring(failure.type)), message = shorten(tostring(failure.message))}
end

-- One EXISTS if no task has a history.
local function delete_history(ids)
  if #ids == 0 or redis.call('EXISTS', history, progress, logs) == 0 then return end
  for _, column in ipairs({history, progress, logs}) do call_with('HDEL', column, ids) end
end
