#!lua flags=allow-oom
-- Perform effects that an outbox or a cancellation has for this partition. Each has a key, so that a repeated relay changes nothing.
-- KEYS: tasks ready scheduled delayed owners levels dead cancelled errors meta stats wake uniques claims limits outbox members joins waiting arrivals relayed events
-- ARGV: memory_ms (how long keys are remembered), then for each effect: key ('' = none) effect
-- Returns for each effect: 1 performed | 0 known already
return perform_once()
