"""One run of one task: its dependencies, deadline, outcome, progress."""
