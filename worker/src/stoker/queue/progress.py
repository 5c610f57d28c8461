"""What running tasks tell of themselves, on its way into Redis."""

from collections.abc import Sequence
from typing import NamedTuple

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import Argument, ScriptCall
from stoker.redis.client import RedisClient

MOST_LINES, MOST_BYTES = 50, 8192
"""Of a task's log, all its attempts together, the last of these are kept."""
TOLD_AT_ONCE = 20


class Note(NamedTuple):
    """News of one delivery: how far it is (JSON; empty: no news), and new lines of its log (JSON), numbered from `first` on."""

    id: str
    fence: str
    progress: bytes
    first: int
    lines: Sequence[bytes]


async def tell(redis: RedisClient, keys: Keys, notes: Sequence[Note]) -> list[bool]:
    """True for each that was kept; False where its delivery has lost its lease. Telling the same twice does no harm."""
    accepted: list[bool] = []
    for at in range(0, len(notes), TOLD_AT_ONCE):
        arguments: list[Argument] = [MOST_LINES, MOST_BYTES]
        for note in notes[at : at + TOLD_AT_ONCE]:
            arguments += (note.id, note.fence, note.progress, note.first, len(note.lines), *note.lines)
        [reply] = await scripts.run(redis, ScriptCall("progress", keys, arguments))
        accepted += [bool(flag) for flag in reply]
    return accepted
