"""Claims of TaskQueues on queues, and how one moves with the URL of its Redis."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from stoker.rules.identity import Holder, QueueId
from stoker_operator.state.findings import Reading
from stoker_operator.state.problem import Problem


class Claim(NamedTuple):
    """The claim of a TaskQueue: where, on which queue, and who."""

    url: str
    queue: QueueId
    holder: Holder


class Claims(Protocol):
    """Claims of queues in Redis. The methods raise nothing but NotLeader."""

    async def claim(self, url: str, queue: QueueId, holder: Holder, instead_of: Holder | None = None) -> Holder | Problem:
        """The holder from now on, or why Redis could not be asked."""

    async def release(self, url: str, queue: QueueId, holder: Holder) -> None:
        """Release the claim, if it is this holder's and Redis answers."""

    async def read(self, url: str, queues: Sequence[Sequence[QueueId]]) -> list[Reading]:
        """Read queues, each given by its partitions."""


async def leave(claims: Claims, before: Claim, now: Claim) -> bool:
    """Release the former claim of a TaskQueue whose Redis URL has changed: once, if that Redis answers.

    Returns whether it may be another Redis: False if both URLs are known to lead to the same one.

    Both URLs may lead to one Redis, where the claim must not be free for a moment: it is marked through the old URL, and stays if
    the mark is seen through the new one.
    """
    marked = now.holder.moved()
    if await claims.claim(before.url, before.queue, marked, instead_of=before.holder) != marked:
        return not same_server(before.url, now.url)
    if await claims.claim(now.url, now.queue, now.holder) == marked:
        await claims.claim(now.url, now.queue, now.holder, instead_of=marked)
        return False
    await claims.release(before.url, before.queue, marked)
    return True


def same_server(one: str, other: str) -> bool:
    """Whether two URLs differ in the user, the password and options alone, as after the change of a password."""
    (first, second) = (urlsplit(url) for url in (one, other))
    hosts = [parts.netloc.rpartition("@")[2] for parts in (first, second)]
    return hosts[0] == hosts[1] and (first.path.strip("/") or "0") == (second.path.strip("/") or "0")
