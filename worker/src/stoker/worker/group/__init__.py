"""Several worker processes behind one status page."""
