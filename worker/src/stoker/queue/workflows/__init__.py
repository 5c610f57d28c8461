"""Chains and groups in Redis: effects, the outbox, joins."""
