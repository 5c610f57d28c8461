"""Groups of dead tasks by the fingerprint of their failures: what is broken, and how often, instead of a thousand tracebacks.

Nothing is kept beside the dead tasks: the groups are those of the tasks that are dead now, read in pages on request.
"""

from collections.abc import Iterable, Iterator

import msgspec

from stoker.queue.keys import Keys
from stoker.redis.client import RedisClient, ask
from stoker.rules.fingerprint import TEXT_CHARACTERS, fingerprint
from stoker.rules.settle import Failure

MOST_READ = 10_000
"""Dead tasks of a partition that are read, the newest first."""
READ_AT_ONCE = 200
MOST_GROUPS, MOST_EXAMPLES = 100, 3

_failure = msgspec.json.Decoder(Failure)


class DeadGroup(msgspec.Struct, frozen=True):
    """Dead tasks whose failures have one fingerprint. `first`, `last`: when they died, epoch ms. `examples`: the newest ids."""

    fingerprint: str
    type: str
    count: int
    first: int
    last: int
    examples: list[str] = []


class DeadTask(msgspec.Struct, frozen=True, gc=False):
    """A dead task, when it died (epoch ms), and its failure."""

    id: str
    at: int
    failure: Failure


async def read_dead(redis: RedisClient, keys: Keys) -> list[DeadTask]:
    """The newest dead tasks of a partition, at most MOST_READ."""
    found: list[DeadTask] = []
    for start in range(0, MOST_READ, READ_AT_ONCE):
        page = await ask(redis, "ZREVRANGE", keys.dead, start, start + READ_AT_ONCE - 1, "WITHSCORES")
        ids = page[::2]
        failures = await ask(redis, "HMGET", keys.errors, *ids) if ids else []
        found += _dead(ids, page[1::2], failures)
        if len(ids) < READ_AT_ONCE:
            break
    return found


def groups_of(tasks: Iterable[DeadTask]) -> list[DeadGroup]:
    """Their groups, the largest first."""
    members: dict[tuple[str, str], list[DeadTask]] = {}
    for task in {task.id: task for task in tasks}.values():  # one that died meanwhile has moved the others to the next page
        members.setdefault((_mark(task.failure), task.failure.type), []).append(task)
    groups = [_group(mark, kind, group) for (mark, kind), group in members.items()]
    return sorted(groups, key=lambda group: (-group.count, -group.last, group.fingerprint))[:MOST_GROUPS]


def _group(mark: str, kind: str, tasks: list[DeadTask]) -> DeadGroup:
    newest = sorted(tasks, key=lambda task: (-task.at, task.id))
    return DeadGroup(mark, kind, len(tasks), newest[-1].at, newest[0].at, [task.id for task in newest[:MOST_EXAMPLES]])


def _mark(failure: Failure) -> str:
    return (failure.fingerprint or fingerprint(failure.type, "", failure.message))[:TEXT_CHARACTERS]


def _dead(ids: list[bytes], scores: list[bytes], failures: list[bytes | None]) -> Iterator[DeadTask]:
    for task_id, score, body in zip(ids, scores, failures, strict=True):
        yield DeadTask(task_id.decode(errors="replace"), round(float(score)), _read(body))


def _read(body: bytes | None) -> Failure:
    try:
        return _failure.decode(body) if body else Failure("Unknown", "")
    except msgspec.MsgspecError:  # another program wrote it
        return Failure("Unreadable", "")
