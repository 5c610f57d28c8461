"""The REST API: enqueue tasks, inspect queues, redrive dead tasks.

There is no authentication yet: anyone who can connect may do everything. So it listens on loopback by default; in a cluster a
NetworkPolicy must restrict access.
"""
