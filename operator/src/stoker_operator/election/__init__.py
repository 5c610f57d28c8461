"""Which of several replicas of the operator works: the election by a Lease."""
