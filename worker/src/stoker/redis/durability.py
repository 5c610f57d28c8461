"""WAIT and WAITAOF: confirm that an enqueue is replicated or on disk."""

from typing import Any

from stoker.redis.failures import code_of
from stoker.redis.replies import ErrorReply
from stoker.rules.durability import Durability

PATIENCE = 2.0
"""Seconds to wait for a replica or a disk. Must stay below the answer timeout."""


def question(durability: Durability) -> tuple[str | int, ...]:
    """The command that waits. It covers everything that its connection has written before."""
    patience = round(PATIENCE * 1000)
    if durability is Durability.REPLICATED:
        return ("WAIT", 1, patience)
    return ("WAITAOF", 1, 0, patience)


def shortfall(durability: Durability, answer: Any) -> str | None:
    """Why the guarantee is not met, and what to do; None if it is met.

    Errors that any call may get (no permission, no connection) also give None: the caller maps them.
    """
    if isinstance(answer, ErrorReply) and code_of(answer) is None:
        return f"Redis cannot wait for its disk: it takes Redis 7.2 or Valkey, and CONFIG SET appendonly yes ({answer})"
    if durability is Durability.REPLICATED and answer == 0:
        return f"no replica acknowledged it within {PATIENCE:g} s: look at INFO replication"
    if durability is Durability.FSYNCED and isinstance(answer, list) and answer[0] == 0:
        return f"it was not on the disk within {PATIENCE:g} s: look at INFO persistence"
    return None
