"""Shares: how the free slots of a worker are split between its queues. No clock, no Redis.

Start-time fair queueing (Goyal, Vin, Cheng 1996) with tasks of equal length: each queue has a virtual time, which advances by
1/weight with each task that it takes. Free slots go to the queues whose virtual times are the least.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

from stoker.errors import Invalid
from stoker.rules.message import check_queue

MAX_WEIGHT = 1000


class QueueWeight(Struct, frozen=True):
    """A queue, and its weight beside others."""

    name: str
    weight: int = 1


class Claim(NamedTuple):
    """A queue that has work: its virtual time, and its weight."""

    passed: float
    weight: float


def parse_queues(texts: Sequence[str]) -> tuple[QueueWeight, ...]:
    """Queues as `name` or `name:weight`. Raises Invalid, also where one is named twice, or only some have weights."""
    queues = tuple(map(_parse, texts))
    for queue in queues:
        if [each.name for each in queues].count(queue.name) > 1:
            raise Invalid(f"--queue: {queue.name} is given twice")
    weighted = [text for text in texts if ":" in text]
    if weighted and len(weighted) < len(texts):
        plain = next(text for text in texts if ":" not in text)
        raise Invalid(f"--queue: {weighted[0]} has a weight and {plain} has none: give all of them one, or none (all equal)")
    return queues


def _parse(text: str) -> QueueWeight:
    name, colon, weight = text.partition(":")
    if not colon:
        return QueueWeight(check_queue(name))
    if not weight.isascii() or not weight.isdigit() or not 1 <= int(weight) <= MAX_WEIGHT:
        raise Invalid(f"--queue: {text!r}: the weight is a whole number from 1 to {MAX_WEIGHT}, as in critical:6")
    return QueueWeight(check_queue(name), int(weight))


def split(free: int, claims: Sequence[Claim], *, strict: bool = False) -> list[int]:
    """How many of the free slots each queue may fill. Together all of them. `strict`: the first that has work gets all."""
    if not claims or free <= 0:
        return [0] * len(claims)
    if strict:
        return [free, *[0] * (len(claims) - 1)]
    level = _level(free, claims)
    shares = [int(max(0.0, level - claim.passed) * claim.weight) for claim in claims]
    for _ in range(free - sum(shares)):  # fewer than there are queues
        next_one = min(range(len(claims)), key=lambda at: claims[at].passed + (shares[at] + 1) / claims[at].weight)
        shares[next_one] += 1
    return shares


def _level(free: int, claims: Iterable[Claim]) -> float:
    """The virtual time at which those below it have filled all slots, to fractions of a task."""
    weights = waiting = 0.0
    level = float("inf")
    for claim in sorted(claims):
        if claim.passed >= level:
            break
        weights += claim.weight
        waiting += claim.weight * claim.passed
        level = (free + waiting) / weights
    return level


def without_tasks(queues: Collection[str], tasks: Iterable[tuple[str, str]]) -> str:
    """What is wrong where no task (name, queue) of an application belongs to the queues of its worker; '' if one does."""
    tasks = list(tasks)
    if not tasks or any(queue in queues for _, queue in tasks):
        return ""
    others = sorted({queue for _, queue in tasks})
    return f"no task of the application is in {', '.join(queues)}: its tasks are in {', '.join(others)}"
