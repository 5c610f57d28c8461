"""How we speak to Redis: one server, sentinels or a cluster. Knows no task and no queue."""
