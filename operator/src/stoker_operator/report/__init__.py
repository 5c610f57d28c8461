"""What users see of a TaskQueue: conditions, status, Events."""
