"""Child processes for tasks with executor="process"."""
