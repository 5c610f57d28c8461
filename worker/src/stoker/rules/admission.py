"""A message on its way into a queue: what the enqueuing side, the inbox and workflows hand to the scripts that admit tasks."""

from msgspec import Struct

from stoker.rules.concurrency import Limit
from stoker.rules.message import Message
from stoker.rules.partitions import PartitionKey
from stoker.rules.unique import Claim
from stoker.rules.units import to_ms


class Admission(Struct, frozen=True, gc=False):
    """A message, when it becomes ready, and what it competes for.

    `delay` in seconds of Redis' clock, or `run_at` in epoch seconds; both 0: at once. With a `claim` it is admitted only while
    no other task holds the same one. With a `limit` it runs only while fewer than that many tasks of its key run.
    """

    message: Message
    delay: float = 0.0
    run_at: float = 0.0
    claim: Claim | None = None
    limit: Limit | None = None

    @property
    def partition_key(self) -> PartitionKey:
        """What determines its partition."""
        return PartitionKey(self.message.id, self.claim.digest if self.claim else "", self.limit.key if self.limit else "")


def marks(claim: Claim | None, limit: Limit | None) -> tuple[str, str, str | int, str]:
    """Claim and limit as the scripts read them (`marks_of` in `_admit.lua`): mode, digest, ttl in ms, limit; "" where absent."""
    mode, digest, ttl = (claim.until[0], claim.digest, to_ms(claim.ttl)) if claim else ("", "", "")
    return mode, digest, ttl, limit_column(limit)


def limit_column(limit: Limit | None) -> str:
    """A task's value in the column `limits`: how many may run, and the concurrency key; "" without one."""
    return f"{limit.most} {limit.key}" if limit else ""
