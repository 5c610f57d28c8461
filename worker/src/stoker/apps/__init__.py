"""Ready-made applications: a TaskQueue can use one without building an image."""
