"""Stoker beside its peers: the same tasks, the same server, the same interpreter, round by round."""
