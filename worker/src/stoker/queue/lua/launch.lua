-- Begin a workflow that begins with a group. As relay.lua, but refused when memory is full.
-- KEYS: tasks ready scheduled delayed owners levels dead cancelled errors meta stats wake uniques claims limits outbox members joins waiting arrivals relayed events
-- ARGV: memory_ms (how long keys are remembered), then for each effect: key ('' = none) effect
-- Returns for each effect: 1 performed | 0 known already
return perform_once()
