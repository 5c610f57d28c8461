"""Kubernetes watches: which TaskQueue to reconcile, and which events are worth a pass."""
