"""One module per peer, each behind the same small interface, imported in that peer's environment only.

A module offers `PEER`. It is configured as its project recommends for speed, at least once, with results kept;
`settings` says how, word by word, for the table in the results.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import NamedTuple, Protocol, cast

STOKER = "stoker"
PEERS = (STOKER, "taskiq", "dramatiq", "saq", "arq", "celery", "streaq", "docket")


class Settings(NamedTuple):
    """How a peer is set up, for people to read."""

    delivery: str
    results: str
    worker: str
    bulk: str


class Producer(Protocol):
    """The enqueuing side. `task` is a name of `stoker_bench.workload`: noop, nap, stamp."""

    async def one(self, task: str, number: int, text: str) -> None:
        """Enqueue one task; done when the server has it."""

    async def many(self, task: str, numbers: Sequence[int], text: str) -> None:
        """Enqueue all of them by the fastest way that the library offers."""

    async def gather(self, task: str, numbers: Sequence[int], text: str) -> None:
        """Enqueue all of them as single tasks at the same time."""

    async def waiting(self) -> int:
        """How many tasks wait, as the library itself counts them."""


class Peer(Protocol):
    """A library under test."""

    packages: Sequence[str]
    settings: Settings

    def work(self) -> None:
        """Run the library's own worker, in this process or below it, until SIGTERM."""

    def producer(self) -> AbstractAsyncContextManager[Producer]:
        """A connected enqueuing side."""


def load(name: str) -> Peer:
    """The peer of this name. Needs its environment."""
    return cast(Peer, import_module(f"stoker_bench.peers.{name}").PEER)
