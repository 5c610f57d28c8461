"""Take tasks back from dead workers: `reap_host` at once, for a host known to have ended; `Broker.reap` when leases expire."""

from typing import NamedTuple

import msgspec

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient, ask, scan
from stoker.rules.losses import LossCause
from stoker.rules.names import runs_on
from stoker.rules.settle import Failure

STEP = 500
REAPED_AT_ONCE = 100


class Reaped(NamedTuple):
    """Tasks given back, tasks buried, and workers forgotten."""

    given_back: int
    buried: int
    forgotten: int


async def reap_host(redis: RedisClient, keys: Keys, host: str, max_lost: int, cause: LossCause | None = None) -> Reaped:
    """Give back what the worker processes of a pod or machine held, each delivery counted as lost unless the cause is innocent.

    Forgets these workers.
    """
    names = [name.decode() for name in await ask(redis, "HKEYS", keys.workers)]
    gone = [name for name in names if runs_on(name, host)]
    held: list[tuple[bytes, str]] = []
    async for task_id, owner in scan(redis, "HSCAN", keys.owners, STEP):
        fence = owner.decode().partition(" ")[0]
        if runs_on(_worker_of(fence), host):
            held.append((task_id, fence))
    total = Reaped(0, 0, 0)
    for at in range(0, max(len(held), min(1, len(gone))), REAPED_AT_ONCE):
        pairs = [field for pair in held[at : at + REAPED_AT_ONCE] for field in pair]
        loss = [f"its worker was seen to end{': ' + cause.text if cause else ''}", cause or "", int(bool(cause and cause.innocent))]
        arguments = [max_lost, lost_too_often(max_lost, cause), *loss, len(gone), *gone, *pairs]
        [reply] = await scripts.run(redis, ScriptCall("reap_worker", keys, arguments))
        total = added(total, Reaped(*reply))
    return total


def added(a: Reaped, b: Reaped) -> Reaped:
    """The sum of both. Workers are counted once: they appear in every partition."""
    return Reaped(a.given_back + b.given_back, a.buried + b.buried, max(a.forgotten, b.forgotten))


def lost_too_often(max_lost: int, cause: LossCause | None = None) -> bytes:
    """The failure of a task buried after `max_lost` losses. `cause`: of the last one."""
    last = f" (the last time: {cause.text})" if cause else ""
    return msgspec.json.encode(
        Failure("WorkerLost", f"lost {max_lost} times with the worker that ran it{last}; it may be what kills them")
    )


def _worker_of(fence: str) -> str:
    return fence.partition(":")[2].partition(":")[0]
