"""The enqueuing side: a call of a task, and the client that sends it."""
