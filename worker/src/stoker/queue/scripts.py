"""The Lua scripts as callables. Each .lua file says its KEYS, ARGV and returns; the shared prelude is put in front.

Called by the broker and the inspector only. EVALSHA with a fallback to EVAL, so that a restarted or
flushed server needs no ceremony; never FUNCTION LOAD, where one old pod would downgrade all others.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from stoker.queue.connection import errors_mapped, mapped

Argument = str | bytes | int | float


class Script(NamedTuple):
    """One script: its whole text and the SHA-1 that EVALSHA wants."""

    text: str
    sha: str


class Call(NamedTuple):
    """One call of a script by name."""

    script: str
    keys: Sequence[str]
    arguments: Sequence[Argument]

    def by_hash(self) -> tuple[Argument, ...]:
        """The command that runs it where the server knows it."""
        return ("EVALSHA", load(self.script).sha, len(self.keys), *self.keys, *self.arguments)

    def by_text(self) -> tuple[Argument, ...]:
        """The command that runs it anywhere."""
        return ("EVAL", load(self.script).text, len(self.keys), *self.keys, *self.arguments)


@cache
def load(name: str) -> Script:
    """The script `lua/<name>.lua` behind the prelude. A `#!lua` line must stay the first."""
    folder = resources.files("stoker.queue") / "lua"
    body = (folder / f"{name}.lua").read_text()
    flags, newline, rest = body.partition("\n") if body.startswith("#!") else ("#!lua", "\n", body)
    prelude = (folder / "_prelude.lua").read_text() + (folder / "_promote.lua").read_text()
    text = flags + newline + prelude + rest
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


async def run(redis: Redis, *calls: Call) -> list[Any]:
    """Run scripts in one round trip, in order, not as a transaction. Returns their replies.

    Raises RedisUnavailable or RedisRefused for the first that failed; those before it have taken effect.
    """
    with errors_mapped():
        if len(calls) == 1:
            return [await _run_one(redis, calls[0])]
        pipeline = redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call.by_hash())
        replies = await pipeline.execute(raise_on_error=False)
    for at, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            with errors_mapped():
                replies[at] = await _send(redis, calls[at].by_text())
        elif isinstance(reply, Exception):
            raise mapped(reply) from reply
    return replies


async def _run_one(redis: Redis, call: Call) -> Any:
    try:
        return await _send(redis, call.by_hash())
    except NoScriptError:
        return await _send(redis, call.by_text())


async def _send(redis: Redis, command: Sequence[Argument]) -> Any:
    return await redis.execute_command(*command)  # type: ignore[no-untyped-call]


def run_blocking(redis: BlockingRedis, call: Call) -> Any:
    """The same for a thread of its own."""
    with errors_mapped():
        try:
            return redis.execute_command(*call.by_hash())  # type: ignore[no-untyped-call]
        except NoScriptError:
            return redis.execute_command(*call.by_text())  # type: ignore[no-untyped-call]
