"""Credentials for Redis: the operator's own, the gateway's, and those of each namespace with a TaskQueue."""
