"""What a task declares: its options, its signature, the types of its arguments, its dependencies."""
