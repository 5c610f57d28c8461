"""The Kubernetes operator of Stoker: runs the workers of each TaskQueue as a Deployment and scales it by the queue's backlog."""
