"""The Kubernetes operator of Stoker: a TaskQueue in, a Deployment of workers out, sized by what waits in Redis."""
