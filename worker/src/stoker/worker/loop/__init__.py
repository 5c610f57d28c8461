"""The worker's loop: fetch, run, settle, and the chores beside it."""
