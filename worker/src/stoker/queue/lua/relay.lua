#!lua flags=allow-oom
-- Perform items that an outbox had for this queue. Each has a key, so that a second relay of the same does nothing.
-- KEYS: tasks ready scheduled levels dead cancelled errors meta stats wake uniques claims limits outbox members joins waiting arrivals relayed events
-- ARGV: memory_ms (how long keys are remembered), then for each item: key ('' = none) item
-- Returns for each item: 1 performed | 0 known already
return take_in()
