-- What a burial sets off: the handler that the task's name has in `hooks`, and those of its own call (`on_failure` in its envelope).
-- Values of hooks are "template step"; the field '' is for names that have none. queue/workflows/outbox.py relays the entries.
local LINKED, MOST_HANDLERS, LONGEST_STEP = '"on_failure":', 20, 8192

-- The step, and as a table; nothing for a value that announce.lua has not written.
local function hook_of(name)
  local found = redis.pcall('HMGET', hooks, name, '')  -- another program may have made it something else
  local step = string.match(found[1] or found[2] or '', '^%S+ (.*)$')
  if not step or #step > LONGEST_STEP then return end
  local readable, fields = pcall(cjson.decode, step)
  if readable and type(fields) == 'table' and type(fields.message) == 'table' then return step, fields end
end

-- Adds an entry to the outbox for a task that is buried now, unless nothing handles its death or it is a handler itself. Returns the
-- handlers for its history: their ids come from the task's and the entry's, so each burial has others.
local function set_off_handlers(id, failure, cause, attempt)
  local envelope = redis.call('HGET', tasks, id) or ''
  local linked = string.find(envelope, LINKED, 1, true)
  if not linked and redis.call('EXISTS', hooks) == 0 then return end
  local readable, fields = pcall(cjson.decode, envelope)
  if not readable or type(fields) ~= 'table' or type(fields.task) ~= 'string' or fields.handles then return end
  local step, hook = hook_of(fields.task)
  local onward = type(fields.onward) == 'table' and fields.onward or {}
  local links = type(onward.on_failure) == 'table' and onward.on_failure or {}
  if not step and #links == 0 then return end

  local entry = redis.call('XADD', outbox, '*', 'dead', id, 'envelope', envelope, 'failure', failure, 'cause', cause,
    'attempt', attempt, 'at', real, 'hook', step or '')
  local handlers = {}
  for at, each in ipairs({hook or false, unpack(links, 1, MOST_HANDLERS)}) do
    local message = type(each) == 'table' and each.message
    if type(message) == 'table' and type(message.queue) == 'string' and type(message.task) == 'string' then
      local own = type(message.id) == 'string' and message.id ~= '' and message.id
      local made = own or redis.sha1hex(id .. US .. entry .. US .. (at - 1))
      handlers[#handlers + 1] = {id = made, queue = shorten(message.queue), task = shorten(message.task)}
    end
  end
  return #handlers > 0 and handlers or nil
end

-- Deletes the hooks for which is_stale(name, template) says so.
local function forget_hooks(is_stale)
  local found = redis.pcall('HGETALL', hooks)
  if found.err then redis.call('DEL', hooks) end
  for at = 1, #found, 2 do
    if is_stale(found[at], string.match(found[at + 1], '^%S+')) then redis.call('HDEL', hooks, found[at]) end
  end
end

-- The newest announcement decides: its handlers, and for the other names that it knows none. Names that it does not know keep theirs.
local function set_hooks(template, known, handlers)
  forget_hooks(function(name, owner) return not handlers[name] and (owner == template or known[name] ~= nil) end)
  for name, step in pairs(handlers) do redis.call('HSET', hooks, name, template .. ' ' .. step) end
end
