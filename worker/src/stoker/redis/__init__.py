"""Redis clients for one server, Sentinel and Cluster. Knows nothing of tasks and queues."""
