"""REST for those who do not speak Python: enqueue tasks, look at queues, repair dead letters.

It asks nobody who they are yet. Whoever reaches it may do everything it offers, so it listens on the
loopback address unless told otherwise; in a cluster a NetworkPolicy decides who reaches it.
"""
