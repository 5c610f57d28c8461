-- Start a workflow whose beginning is more than one task. As relay.lua, but what is new is refused where memory is full.
-- KEYS: tasks ready scheduled levels dead cancelled errors meta stats wake uniques claims limits outbox members joins waiting arrivals relayed events
-- ARGV: memory_ms (how long keys are remembered), then for each item: key ('' = none) item
-- Returns for each item: 1 performed | 0 known already
return take_in()
