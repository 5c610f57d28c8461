"""A prepared call on a schedule, as it is stored in its queue."""

from msgspec import UNSET

from stoker.errors import Invalid
from stoker.rules.call import TaskCall
from stoker.rules.schedule import Definition, Timing


def definition_of(name: str, timing: Timing, call: TaskCall) -> Definition:
    """As it is stored. Raises Invalid for options that a schedule decides itself."""
    call.check()
    own = {"delay": call.delay, "run_at": call.run_at, "id": call.id, "idempotency_key": call.idempotency_key, "unique": call.claim}
    if decided := [option for option, value in own.items() if value]:
        raise Invalid(f"schedule {name}: {', '.join(decided)} cannot be given: its times say when, its overlap how many at a time")
    if call.expires_at:
        raise Invalid(f"schedule {name}: give expires in seconds: a datetime would hold for one run only")
    if call.onward is not UNSET:
        raise Invalid(f"schedule {name}: on_success and on_failure cannot be given for a schedule: use on_dead=")
    return Definition(
        name,
        timing,
        call.task,
        call.payload,
        priority=call.priority,
        max_retries=call.max_retries,
        timeout=call.timeout,
        limit=call.limit,
        soft_timeout=call.soft_timeout,
        retry=call.retry,
        expires=call.expires or None,
        headers=call.headers,
    )
