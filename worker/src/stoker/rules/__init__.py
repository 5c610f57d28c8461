"""What should happen: pure rules about tasks. No clock, no Redis, no event loop."""
