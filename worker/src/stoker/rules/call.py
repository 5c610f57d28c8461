"""A call of a task, with its arguments and options, before it is enqueued. Middleware is given it as `TaskCall`."""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import force_setattr

from stoker.errors import Invalid
from stoker.rules.admission import Admission
from stoker.rules.concurrency import Limit
from stoker.rules.durability import Durability, check_durability
from stoker.rules.message import (
    MAX_PRIORITY,
    MIN_PRIORITY,
    Message,
    check_delay,
    check_headers,
    check_id,
    check_key,
    check_priority,
    check_queue,
    check_retries,
    check_task,
    check_timeouts,
    check_version,
    id_of_key,
    is_queue,
)
from stoker.rules.request import check_either_or, check_expires, check_moment
from stoker.rules.retry import Backoff
from stoker.rules.unique import Claim

_UNSET = 0.0
"""The default of each time: one object, so that a call without times is recognized at once."""
_USUAL = (None, None, None, None, None, UNSET)
_KINDS: dict[str, Any] = {
    "payload": Raw,
    "retry": Backoff | None,
    "claim": Claim | None,
    "limit": Limit | None,
    "into": str | None,
    "onward": Raw | UnsetType,
    "created": int | None,
}
EXCLUSIVE = ("delay", "run_at", "id", "idempotency_key", "expires", "expires_at")


class TaskCall(Struct, frozen=True, gc=False):
    """A call of a task. It runs `delay` seconds from now or at `run_at`, in epoch seconds; both 0: at once.

    `id`, or `idempotency_key` from which one is made, makes it idempotent for as long as the task is kept. `timeout` and
    `soft_timeout` in seconds; None leaves them, and the retries, to the task's declaration. `retry` has precedence over
    `max_retries`. No run begins `expires` seconds from now or later, or at `expires_at` in epoch seconds; both 0: never.
    With a `claim` it is enqueued only where no other task holds the same one, whose receipt it gets otherwise. With a `limit` it
    is parked while that many tasks of its key run.

    Of workflows: `into` is the parameter that takes the result of the task before. `onward` is what follows its success.
    `created` is its time in epoch milliseconds, now where it is None. `in_workflow`: it is part of a chain or group, or sent by
    a running task; then it has no `expires`, and no durability unless it is a chain's first link.
    """

    task: str
    queue: str
    payload: Raw = Raw(b"{}")
    priority: int = 0
    delay: float = _UNSET
    run_at: float = _UNSET
    id: str | None = None
    max_retries: int | None = None
    retry: Backoff | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    expires: float = _UNSET
    expires_at: float = _UNSET
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
        """The id that the caller has chosen; None where one is to be made."""
        return self.id if self.idempotency_key is None else id_of_key(self.queue, self.idempotency_key)

    def admission(self, make_id: Callable[[], str], now: int, trace: dict[str, str]) -> Admission:
        """The task that it becomes, on its way into its queue. `make_id` where the caller has chosen none; `now` in epoch ms."""
        task_id = self.id if self.idempotency_key is None else self.own_id
        message = self.message(task_id or make_id(), self.created or now, trace)
        return Admission(message, self.delay, self.run_at, self.claim, self.limit)

    def message(self, task_id: str, created: int, trace: dict[str, str]) -> Message:
        """The envelope that it becomes. `created` in epoch milliseconds, 0 where it is not known yet."""
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
        """Raises Invalid, with the field at fault, for values out of range and for two that exclude each other.

        Numbers and texts of other types (numpy.int64, an IntEnum) become Python's own, in place: Redis can be sent no others.
        """
        # By hand for what most calls are: the functions cost more than all else here.
        queue, task, priority = self.queue, self.task, self.priority
        if type(queue) is not str or not is_queue(queue):
            force_setattr(self, "queue", check_queue(queue))
        if type(priority) is not int or not MIN_PRIORITY <= priority <= MAX_PRIORITY:
            force_setattr(self, "priority", check_priority(priority))
        if type(task) is not str or not task or not task.isascii():
            force_setattr(self, "task", check_task(task))
        self._check_optional()

    def _check_optional(self) -> None:
        if self.id is not None or self.idempotency_key is not None:
            self._check_names()
        if self.max_retries is not None:
            force_setattr(self, "max_retries", check_retries(self.max_retries))
        if self.timeout is not None or self.soft_timeout is not None:
            soft, hard = check_timeouts(self.soft_timeout, self.timeout)
            force_setattr(self, "soft_timeout", soft)
            force_setattr(self, "timeout", hard)
        if self.headers != {}:
            force_setattr(self, "headers", check_headers(self.headers))
        if self.version or type(self.version) is not int:
            force_setattr(self, "version", check_version(self.version))
        if not (self.delay is self.run_at is self.expires is self.expires_at is _UNSET):
            self._check_times()
        if self.durability is not Durability.MEMORY:
            force_setattr(self, "durability", check_durability(self.durability))
        nested = self.retry, self.claim, self.limit, self.into, self.created, self.onward
        if nested != _USUAL or type(self.payload) is not Raw:
            self._check_kinds()

    def _check_kinds(self) -> None:
        """Raises Invalid for values of a wrong type: those of the right one were checked where they were made."""
        for field, kinds in _KINDS.items():
            if not isinstance(value := getattr(self, field), kinds) or isinstance(value, bool):
                raise Invalid(f"task {self.task}: bad {field} {value!r}", field)

    def _check_names(self) -> None:
        self._check_either_or()
        if self.id is not None:
            force_setattr(self, "id", check_id(self.id))
        if self.idempotency_key is not None:
            force_setattr(self, "idempotency_key", check_key(self.idempotency_key, "idempotency_key"))

    def _check_times(self) -> None:
        force_setattr(self, "delay", check_delay(self.delay))
        force_setattr(self, "run_at", check_moment(self.run_at, "run_at"))
        self._check_either_or()
        if type(self.expires) is bool or self.expires != 0:
            force_setattr(self, "expires", check_expires(self.expires))
        force_setattr(self, "expires_at", check_moment(self.expires_at, "expires_at"))
        if 0 < self.expires <= self.delay or 0 < self.expires_at <= self.run_at:
            raise Invalid(f"task {self.task}: it would expire before it is due", "expires" if self.expires else "expires_at")

    def _check_either_or(self) -> None:
        try:
            check_either_or([field for field in EXCLUSIVE if getattr(self, field) not in (None, 0)])
        except Invalid as error:
            raise Invalid(f"task {self.task}: {error}", error.field) from None

    def _expiry(self, created: int) -> int:
        """From when on no run may begin, in epoch milliseconds."""
        if self.expires and not created:
            words = "in a chain or group give expires as a datetime, since seconds from now would count from an unknown moment"
            raise Invalid(f"task {self.task}: {words}", "expires")
        return round(1000 * (self.expires_at or created / 1000 + self.expires))
