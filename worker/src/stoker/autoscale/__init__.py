"""How many workers should exist: pure decisions from what is waiting."""
