"""Reads of a queue, manual operations, and the doctor."""
