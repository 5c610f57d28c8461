"""How many workers a queue needs: pure decisions from its backlog."""
