"""One worker process from start to exit."""
