"""The engine: keys, Lua scripts, transitions (broker), schedules, workflows, reads and manual operations (inspector)."""
