"""What people import: the application, its tasks, workflows, middleware."""
