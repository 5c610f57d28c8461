"""What the operator knows of each TaskQueue, in memory. A restart rebuilds all of it from the cluster and from Redis."""
