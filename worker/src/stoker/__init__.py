"""Stoker: background tasks on Redis, for Kubernetes and for a laptop."""
