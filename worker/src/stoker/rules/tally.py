"""Tallies: what workers count of their runs and flush once a minute, and the records that Redis makes of them.

A tally is a flat mapping of count -> number: the counters below, `w7` and `r12` for buckets of the histograms of wait and run,
`wait_ms` and `run_ms` for their sums. Tallies are added count by count: the script (lua/tally.lua) knows none of them by name.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from stoker.rules.buckets import BOUNDS, Histogram, merged

FORMAT = 1
"""Version of the stored values. A worker leaves a higher one alone and replaces a lower one; readers skip both."""
MOST_NAMES = 50
"""Task names per slot of a ring; the runs of further ones are counted as OTHER."""
OTHER = "other"
MOST_VERSIONS = 20
LONGEST_NAME = 255
MOST_COUNT = 1 << 53
"""Exact in Lua. What is no count up to here reads 0."""
COUNTERS = ("started", "succeeded", "retried", "dead", "snoozed", "cancelled", "released")

Tally = Mapping[str, int]


class Ring(NamedTuple):
    """A ring of `slots` periods of `seconds` each. The field of a slot: `prefix` and the number of the period modulo `slots`."""

    prefix: str
    seconds: int
    slots: int

    def fields(self, now_ms: int) -> Iterator[tuple[str, int]]:
        """Field and number of each period that the ring may hold now, the newest first."""
        newest = now_ms // (self.seconds * 1000)
        for number in range(newest, max(-1, newest - self.slots), -1):
            yield f"{self.prefix}{number % self.slots}", number


MINUTES = Ring("m", 60, 120)
TEN_MINUTES = Ring("t", 600, 432)
RINGS = (MINUTES, TEN_MINUTES)
KEPT = TEN_MINUTES.seconds * TEN_MINUTES.slots
"""Seconds: three days."""


class RunCounts(msgspec.Struct, frozen=True):
    """Runs by outcome, and how long they waited (ready until started) and ran.

    `started` counts at a run's start, all others at its end. `released`: given back unfinished by a worker that stopped.
    """

    started: int = 0
    succeeded: int = 0
    retried: int = 0
    dead: int = 0
    snoozed: int = 0
    cancelled: int = 0
    released: int = 0
    wait: Histogram = Histogram()
    run: Histogram = Histogram()


class Period(msgspec.Struct, frozen=True):
    """One minute or ten of a queue: task name -> its runs. `at`: its start, epoch ms of Redis' clock.

    A run counts where its worker's flush fell, at most a minute after its end.
    """

    at: int
    seconds: int
    tasks: dict[str, RunCounts]

    @property
    def all(self) -> RunCounts:
        """All tasks together."""
        return total(self.tasks.values())


class VersionRecord(msgspec.Struct, frozen=True):
    """The runs of one version (rules/announcement.py: its template). First and last seen: flushes of its workers, epoch ms."""

    version: str
    first_seen: int
    last_seen: int
    runs: RunCounts


class Slo(msgspec.Struct, frozen=True):
    """Runs that started within `max_wait` seconds of being ready, and all that started, since counting began.

    `max_wait` None: none is set, and nothing is counted.
    """

    max_wait: float | None = None
    started: int = 0
    in_time: int = 0


class _Stored(msgspec.Struct):
    v: int
    at: int
    names: dict[str, Any]


class _StoredVersion(msgspec.Struct):
    v: int
    first: float
    last: float
    counts: Any


class _AnyFormat(msgspec.Struct):
    v: int


_any = msgspec.msgpack.Decoder(_AnyFormat)
_stored = msgspec.msgpack.Decoder(_Stored)
_stored_version = msgspec.msgpack.Decoder(_StoredVersion)
_WAITS, _RUNS = ({f"{letter}{number}": number for number in range(len(BOUNDS) + 1)} for letter in "wr")
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def difference(now: Tally, before: Tally) -> dict[str, int]:
    """What has been added since; counts that have not changed are left out."""
    return {name: count - before.get(name, 0) for name, count in now.items() if count != before.get(name, 0)}


def total(counts: Iterable[RunCounts]) -> RunCounts:
    """The sum."""
    each = list(counts)
    sums = {name: sum(getattr(one, name) for one in each) for name in COUNTERS}
    return RunCounts(**sums, wait=merged(one.wait for one in each), run=merged(one.run for one in each))


def count_of(value: object) -> int:
    """A stored count. What is none, since another program wrote it, is 0."""
    if isinstance(value, bytes):
        value = int(value) if value.isdigit() and len(value) <= 16 else 0
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and 0 <= value <= MOST_COUNT else 0  # type: ignore[call-overload, operator]


def run_counts(tally: object) -> RunCounts:
    """The counts of a tally, of which nothing is trusted."""
    counts = tally if isinstance(tally, Mapping) else {}
    known = {name: count_of(counts.get(name)) for name in COUNTERS}
    return RunCounts(**known, wait=_histogram(counts, _WAITS, "wait_ms"), run=_histogram(counts, _RUNS, "run_ms"))


def periods(ring: Ring, now_ms: int, values: Sequence[object]) -> list[Period]:
    """The periods of a ring, oldest first, of the values of `ring.fields(now_ms)`. Unreadable ones are left out."""
    found = [_period(ring, number, value) for (_, number), value in zip(ring.fields(now_ms), values, strict=False)]
    return [each for each in reversed(found) if each is not None]


def versions(flat: Sequence[object]) -> list[VersionRecord]:
    """The records of versions, by first seen, of a flat list of names and values. What cannot be read is left out."""
    found = [_version(name, value) for name, value in zip(flat[::2], flat[1::2], strict=False)]
    return sorted([each for each in found if each is not None], key=lambda each: each.first_seen)[-MOST_VERSIONS:]


def is_slot(field: bytes, value: bytes, places: int) -> bool:
    """Whether a field of the minutes is read: a slot of a ring with a readable value, or one of `places` of last flushes."""
    name, number = field[:1].decode(errors="replace"), field[1:]
    if not number.isdigit() or len(number) > 3:
        return False
    if name == "f":
        return int(number) < places
    slots = next((ring.slots for ring in RINGS if ring.prefix == name), 0)
    return int(number) < slots and (_is_newer(value) or _readable(_stored, value))


def is_version(name: bytes, value: bytes) -> bool:
    """Whether this is the record of a version, of this format or a newer one."""
    return len(name) <= LONGEST_NAME and (_is_newer(value) or _readable(_stored_version, value))


def _is_newer(value: bytes) -> bool:
    return (_readable(_any, value) and _any.decode(value).v) > FORMAT


def _readable(decoder: msgspec.msgpack.Decoder[Any], value: bytes) -> bool:
    try:
        decoder.decode(value)
    except _UNREADABLE:
        return False
    return True


def _period(ring: Ring, number: int, value: object) -> Period | None:
    if not isinstance(value, bytes) or not value:
        return None
    try:
        stored = _stored.decode(value)
    except _UNREADABLE:
        return None
    if stored.v != FORMAT or stored.at != number:
        return None
    names = [name for name in stored.names if len(name) <= LONGEST_NAME][: MOST_NAMES + 1]
    return Period(number * ring.seconds * 1000, ring.seconds, {name: run_counts(stored.names[name]) for name in names})


def _version(name: object, value: object) -> VersionRecord | None:
    if not isinstance(name, bytes) or not isinstance(value, bytes) or len(name) > LONGEST_NAME:
        return None
    try:
        stored, text = _stored_version.decode(value), name.decode()
    except _UNREADABLE:
        return None
    if stored.v != FORMAT:
        return None
    return VersionRecord(text, count_of(stored.first), count_of(stored.last), run_counts(stored.counts))


def _histogram(counts: Mapping[Any, object], numbers: Mapping[str, int], sum_ms: str) -> Histogram:
    found = {numbers[name]: count for name, value in counts.items() if name in numbers and (count := count_of(value))}
    return Histogram(found, count_of(counts.get(sum_ms)) / 1000)
