"""What a server answers: its errors, and those replies that are lists of pairs."""

from collections.abc import Sequence
from typing import Any


class ErrorReply(Exception):
    """An error that a server has answered, in its own words. See `failures` for what becomes of it."""

    @property
    def code(self) -> str:
        """The first word: NOSCRIPT, MOVED, ..., or ERR."""
        return str(self).partition(" ")[0]


def code(reply: Any) -> str:
    """The code of an error, "" for any other reply."""
    return reply.code if isinstance(reply, ErrorReply) else ""


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Fields and values, or members and scores, that came one after the other."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def entries(reply: Sequence[Any] | None) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of a stream: their ids and what they say."""
    return [(entry, pairs(fields)) for entry, fields in reply or ()]


def told(info: bytes) -> dict[str, str]:
    """What INFO says, by name."""
    lines = info.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon and not name.startswith("#")}
