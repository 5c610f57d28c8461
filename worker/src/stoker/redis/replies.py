"""Replies of a server: errors, flat lists of pairs, stream entries, INFO."""

from collections.abc import Sequence
from typing import Any


class ErrorReply(Exception):
    """An error reply of a server, with its text. `failures.mapped` makes a StokerError of it."""

    @property
    def code(self) -> str:
        """The first word: NOSCRIPT, MOVED, ..., or ERR."""
        return str(self).partition(" ")[0]


def code(reply: Any) -> str:
    """The code of an error, "" for any other reply."""
    return reply.code if isinstance(reply, ErrorReply) else ""


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A dict from a flat list of fields and values, or members and scores."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def entries(reply: Sequence[Any] | None) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of a stream: id and fields of each."""
    return [(entry, pairs(fields)) for entry, fields in reply or ()]


def parse_info(info: bytes) -> dict[str, str]:
    """The fields of a reply to INFO."""
    lines = info.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon and not name.startswith("#")}
