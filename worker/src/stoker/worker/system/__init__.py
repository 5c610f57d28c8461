"""What a process needs from the operating system and asyncio: child processes, health server, memory, loading."""
