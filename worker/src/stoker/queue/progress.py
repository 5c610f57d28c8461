"""Progress and log lines of running tasks, written to Redis."""

from collections.abc import Sequence
from typing import NamedTuple

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.redis.client import RedisClient

MOST_LINES, MOST_BYTES = 50, 8192
"""The end of a task's log that is kept, over all its attempts."""
NOTES_AT_ONCE = 20


class Note(NamedTuple):
    """Progress of one delivery (JSON; empty: unchanged), and its new log lines (JSON), numbered from `first`."""

    id: str
    fence: str
    progress: bytes
    first: int
    lines: Sequence[bytes]


async def write_notes(redis: RedisClient, keys: Keys, notes: Sequence[Note]) -> list[bool]:
    """True for each note that was kept, False where the delivery has lost its lease. Idempotent."""
    accepted: list[bool] = []
    for at in range(0, len(notes), NOTES_AT_ONCE):
        arguments: list[Argument] = [MOST_LINES, MOST_BYTES]
        for note in notes[at : at + NOTES_AT_ONCE]:
            arguments += (note.id, note.fence, note.progress, note.first, len(note.lines), *note.lines)
        [reply] = await scripts.run(redis, ScriptCall("progress", keys, arguments))
        accepted += [bool(flag) for flag in reply]
    return accepted
