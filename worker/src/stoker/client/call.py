"""One task to be, with all that may be said of it, before anything is sent."""

from msgspec import UNSET, Raw, Struct, UnsetType

from stoker.errors import Invalid
from stoker.rules.concurrency import Limit
from stoker.rules.durability import Durability
from stoker.rules.message import (
    Message,
    check_delay,
    check_headers,
    check_id,
    check_key,
    check_priority,
    check_queue,
    check_retries,
    check_timeouts,
    id_of_key,
)
from stoker.rules.retry import Backoff
from stoker.rules.unique import Claim

LAST_MOMENT = 253_402_300_799.0  # the end of the year 9999


class TaskCall(Struct, frozen=True, gc=False):
    """One task to be. `delay` in seconds from now, or `run_at` in epoch seconds.

    An `id` of one's own, or an `idempotency_key` from which one is made, makes it idempotent for as long as the task is kept.
    With a `claim` it is only enqueued where no other task holds the same one; that other one is the receipt's.
    With a `limit` it runs only beside so many tasks of the same key. `into` is the parameter that waits for the result of another
    task: such a call can only be part of a chain. `onward` is what follows its success, `created` its time in epoch milliseconds.
    It expires `expires` seconds from now, or at `expires_at` in epoch seconds; 0 is never. `in_workflow`: it is part of a chain or
    group, or a running task has sent it: it can have no `expires` then, and but for a chain's first link no durability of its own.
    """

    task: str
    queue: str
    payload: Raw = Raw(b"{}")
    priority: int = 0
    delay: float = 0.0
    run_at: float = 0.0
    id: str | None = None
    max_retries: int | None = None
    retry: Backoff | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    expires: float = 0.0
    expires_at: float = 0.0
    headers: dict[str, str] = {}
    idempotency_key: str | None = None
    claim: Claim | None = None
    limit: Limit | None = None
    durability: Durability = Durability.MEMORY
    into: str | None = None
    onward: Raw | UnsetType = UNSET
    created: int | None = None
    version: int = 0
    in_workflow: bool = False

    @property
    def own_id(self) -> str | None:
        """The id that the caller decides; None where the client makes one."""
        return self.id if self.idempotency_key is None else id_of_key(self.queue, self.idempotency_key)

    def message(self, task_id: str, created: int, trace: dict[str, str]) -> Message:
        """The envelope it becomes."""
        return Message(
            id=task_id,
            task=self.task,
            payload=self.payload,
            queue=self.queue,
            created=created,
            priority=self.priority,
            trace=trace,
            max_retries=self.max_retries,
            timeout=self.timeout,
            retry=self.retry,
            version=self.version,
            soft_timeout=self.soft_timeout,
            expires=self._expiry(created) if self.expires or self.expires_at else None,
            headers=self.headers,
            onward=self.onward,
        )

    def check(self) -> None:
        """Raises Invalid for values out of range."""
        check_queue(self.queue)
        check_priority(self.priority)
        if not self.task:
            raise Invalid("the task's name is missing")
        if self.id is not None or self.idempotency_key is not None:
            self._check_names()
        if self.max_retries is not None:
            check_retries(self.max_retries)
        if self.timeout is not None or self.soft_timeout is not None:
            check_timeouts(self.soft_timeout, self.timeout)
        if self.headers:
            check_headers(self.headers)
        if self.delay or self.run_at or self.expires or self.expires_at:
            self._check_times()

    def _check_names(self) -> None:
        if self.id is not None:
            check_id(self.id)
        if self.idempotency_key is not None:
            check_key(self.idempotency_key)
            if self.id is not None:
                raise Invalid(f"task {self.task}: give either an id or an idempotency_key, not both")

    def _check_times(self) -> None:
        check_delay(self.delay)
        if not 0 <= self.run_at <= LAST_MOMENT:
            raise Invalid(f"task {self.task}: bad run_at {self.run_at!r}: use seconds since 1970")
        if self.delay and self.run_at:
            raise Invalid(f"task {self.task}: give either a delay or a run_at, not both")
        if not self.expires and not self.expires_at:
            return
        check_delay(self.expires)
        if self.expires and self.expires_at:
            raise Invalid(f"task {self.task}: give either expires or expires_at, not both")
        if not 0 <= self.expires_at <= LAST_MOMENT:
            raise Invalid(f"task {self.task}: bad expires_at {self.expires_at!r}: use seconds since 1970")
        if 0 < self.expires <= self.delay or 0 < self.expires_at <= self.run_at:
            raise Invalid(f"task {self.task}: it would expire before it is due")

    def _expiry(self, created: int) -> int:
        """When no run may begin any more, in epoch milliseconds."""
        if self.expires and not created:
            raise Invalid(f"task {self.task}: nobody knows when its turn comes: in a chain or a group say expires as a datetime")
        return round(1000 * (self.expires_at or created / 1000 + self.expires))
