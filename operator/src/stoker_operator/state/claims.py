"""Which TaskQueue serves a queue in Redis when several name the same one: the oldest."""

from typing import NamedTuple

from stoker_operator.state.ref import Ref


class Claim(NamedTuple):
    """A TaskQueue names a queue. The smallest claim wins, so the order of the fields matters."""

    created: str
    ref: Ref
    queue: tuple[str, str, str]
    """The URL of the Redis, the namespace of the keys, and the name of the queue."""


class Claims:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._claims: dict[Ref, Claim] = {}

    def claim(self, claim: Claim) -> set[Ref]:
        """Record a claim in place of this TaskQueue's last. Returns the other TaskQueues whose turn it may have changed."""
        before = self._claims.get(claim.ref)
        self._claims[claim.ref] = claim
        if before == claim:
            return set()
        return self._rivals(claim) | (self._rivals(before) if before else set())

    def holder(self, claim: Claim) -> Ref | None:
        """The TaskQueue that serves this queue instead, if any."""
        oldest = min(other for other in self._claims.values() if other.queue == claim.queue)
        return None if oldest.ref == claim.ref else oldest.ref

    def release(self, ref: Ref) -> set[Ref]:
        """The TaskQueue is gone. Returns those that named the same queue."""
        claim = self._claims.pop(ref, None)
        return self._rivals(claim) if claim else set()

    def _rivals(self, claim: Claim) -> set[Ref]:
        return {other.ref for other in self._claims.values() if other.queue == claim.queue and other.ref != claim.ref}
