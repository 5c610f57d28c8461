"""What a process needs of its operating system and event loop."""
