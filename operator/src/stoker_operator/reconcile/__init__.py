"""From a TaskQueue to the Deployment of its workers."""
