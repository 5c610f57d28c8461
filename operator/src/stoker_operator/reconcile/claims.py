"""Claims of TaskQueues on queues, and how one moves with the URL of its Redis."""

from typing import NamedTuple, Protocol

from stoker.rules.identity import Holder, QueueId
from stoker_operator.state.problem import Problem


class Claim(NamedTuple):
    """The claim of a TaskQueue: where, on which queue, and who."""

    url: str
    queue: QueueId
    holder: Holder


class Claims(Protocol):
    """Claims of queues in Redis. Both methods raise nothing."""

    async def claim(self, url: str, queue: QueueId, holder: Holder, instead_of: Holder | None = None) -> Holder | Problem:
        """The holder from now on, or why Redis could not be asked."""

    async def release(self, url: str, queue: QueueId, holder: Holder) -> None:
        """Release the claim, if it is this holder's and Redis answers."""


async def leave(claims: Claims, before: Claim, now: Claim) -> None:
    """Release the former claim of a TaskQueue whose Redis URL has changed: once, if that Redis answers.

    Both URLs may lead to one Redis, where the claim must not be free for a moment: it is marked through the old URL, and stays if
    the mark is seen through the new one.
    """
    marked = now.holder.moved()
    if await claims.claim(before.url, before.queue, marked, instead_of=before.holder) != marked:
        return
    if await claims.claim(now.url, now.queue, now.holder) == marked:
        await claims.claim(now.url, now.queue, now.holder, instead_of=marked)
    else:
        await claims.release(before.url, before.queue, marked)
