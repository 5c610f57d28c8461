"""Every read of a queue, and what an operator of it may do by hand."""
