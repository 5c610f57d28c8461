"""The queues in Redis: read them, scale by them, start what is scheduled, give back the tasks of ended pods."""
