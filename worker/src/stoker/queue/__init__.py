"""The only room that speaks Redis: keys, scripts, the broker (transitions), the inspector (reads and repairs)."""
