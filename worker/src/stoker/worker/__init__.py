"""The worker process: it takes tasks, runs them, and settles them."""
