"""An operator is killed at each of its writes, loses the reply or gets an error: it ends as an undisturbed life does."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.operator.apiserver import ApiServer
from tests.operator.kube_proxy import Break, Call, failure
from tests.operator.life_of_a_queue import Stage, stage
from tests.operator.operator_forks import Forker, forking
from tests.operator.redis_cuts import Cut
from tests.redis_servers import Valkey

AT_ONCE = 4
"""Lives that run beside each other."""
KUBE_MODES = ("killed before", "reply lost", "killed after", "409", "422", "429", "500")
REDIS_MODES = ("killed before", "reply lost", "killed after")
PHASES = 5


class Point(NamedTuple):
    """The write at which something goes wrong: its kind and number, or a watch, or a phase."""

    where: str
    kind: str
    number: int
    mode: str


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with forking() as running:
        yield running


class Lives:
    """Lives on one API server and one Redis, each with one fault, compared with one without."""

    def __init__(self, server: ApiServer, redis: Valkey, forker: Forker, folder: Path) -> None:
        self._make = (server, redis, forker)
        self._folder = folder
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.seconds: dict[Point, float] = {}
        self.not_reached: list[Point] = []
        self.expected: dict[str, Any] = {}
        self.writes: list[tuple[str, str, int]] = []

    async def undisturbed(self) -> None:
        async with stage(*self._make, self._new_folder("undisturbed")) as made:
            self.expected = await made.live()
            made.made_once()
            for where, kinds in (("kube", [kind for kind, _ in made.kube.calls]), ("redis", made.redis.calls)):
                numbers: dict[str, int] = {}
                for kind in kinds:
                    numbers[kind] = numbers.get(kind, 0) + 1
                    self.writes.append((where, kind, numbers[kind]))

    def _new_folder(self, name: str) -> Path:
        (made := self._folder / name.replace("/", "-").replace(" ", "-")).mkdir()
        return made

    async def with_fault(self, point: Point) -> str:
        """What is wrong with the end; nothing if it is right."""
        async with self._slots:
            began = time.monotonic()
            folder = self._new_folder("-".join(map(str, point)))
            resync = {"STOKER_RESYNC": "2s"} if point.where == "watch" else {}
            async with stage(*self._make, folder, **resync) as made:
                reached = asyncio.Event()
                ARRANGE[point.where](made, point, reached)
                try:
                    end = await made.live()
                    made.made_once()
                except AssertionError as error:
                    return f"{point}: {error}"
            self.seconds[point] = time.monotonic() - began
            if not reached.is_set():
                self.not_reached.append(point)
            return "" if end == self.expected else f"{point}: {_difference(end, self.expected)}"


def _difference(end: dict[str, Any], expected: dict[str, Any]) -> str:
    return "; ".join(f"{key}: {end[key]} instead of {expected[key]}" for key in end if end[key] != expected[key])


def _at_kube(made: Stage, point: Point, reached: asyncio.Event) -> None:
    def hit(call: Call) -> bool:
        return not reached.is_set() and (call.kind, call.number) == (point.kind, point.number)

    async def before(call: Call) -> Any:
        if point.mode in ("reply lost", "killed after") or not hit(call):
            return None
        reached.set()
        if point.mode == "killed before":
            made.kill()
            raise Break
        extra = {"Retry-After": "1"} if point.mode == "429" else {}
        return failure(int(point.mode), "as the test wants it", **extra)

    async def after(call: Call, _: int) -> None:
        if point.mode in ("reply lost", "killed after") and hit(call):
            reached.set()
            if point.mode == "killed after":
                made.kill()
            raise Break

    made.kube.before, made.kube.after = before, after


def _at_redis(made: Stage, point: Point, reached: asyncio.Event) -> None:
    async def act(name: str, number: int, *, applied: bool) -> None:
        if reached.is_set() or (name, number) != (point.kind, point.number) or applied != (point.mode != "killed before"):
            return
        reached.set()
        if point.mode != "reply lost":
            made.kill()
        raise Cut

    async def before(name: str, number: int) -> None:
        await act(name, number, applied=False)

    async def after(name: str, number: int) -> None:
        await act(name, number, applied=True)

    made.redis.before, made.redis.after = before, after


def _redis_away(made: Stage, point: Point, reached: asyncio.Event) -> None:
    """From the beginning of a phase, for two seconds."""

    def back() -> None:
        made.redis.away = False

    def begins(phase: int) -> None:
        if phase == point.number:
            reached.set()
            made.redis.cut()
            asyncio.get_running_loop().call_later(2, back)

    made.at_phase = begins


def _at_watch(made: Stage, point: Point, reached: asyncio.Event) -> None:
    """`swallowed`: no watch of the kind tells of anything. `gone`: its first watches are refused. `stale`: they end at once."""

    async def gone(call: Call) -> Any:
        if call.kind != point.kind or call.number > 3:
            return None
        reached.set()
        if point.mode == "gone":
            return failure(410, "too old resource version")
        raise Break

    def swallow(line: bytes) -> bytes:
        wanted = {"WATCH taskqueues": b'"kind":"TaskQueue"', "WATCH deployments": b'"kind":"Deployment"'}[point.kind]
        if wanted not in line:
            return line
        reached.set()
        return b""

    if point.mode == "swallowed":
        made.kube.line = swallow
    else:
        made.kube.reads = gone


ARRANGE = {"kube": _at_kube, "redis": _at_redis, "redis away": _redis_away, "watch": _at_watch}
WATCHES = [
    Point("watch", f"WATCH {kind}", 1, mode) for kind in ("taskqueues", "deployments") for mode in ("swallowed", "gone", "broken")
]
AWAY = [Point("redis away", "", phase, "away") for phase in range(1, PHASES + 1)]
SAMPLE = (
    Point("kube", "POST deployments", 1, "killed before"),
    Point("kube", "POST deployments", 1, "killed after"),
    Point("kube", "PATCH deployments", 1, "killed before"),
    Point("kube", "PATCH deployments/scale", 1, "reply lost"),
    Point("kube", "POST secrets", 1, "killed before"),
    Point("redis", "claim", 1, "killed after"),
)


@pytest.fixture
async def lives(own_api_server: ApiServer, shared_valkey: Valkey, forker: Forker, tmp_path: Path) -> Lives:
    made = Lives(own_api_server, shared_valkey, forker, tmp_path)
    await made.undisturbed()
    return made


async def test_a_crash_at_these_writes_changes_nothing_in_the_end(lives: Lives) -> None:
    wrong = await asyncio.gather(*(lives.with_fault(point) for point in SAMPLE))
    assert not list(filter(None, wrong))
    assert not lives.not_reached


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_a_fault_at_any_write_or_watch_changes_nothing_in_the_end(lives: Lives) -> None:
    modes = {"kube": KUBE_MODES, "redis": REDIS_MODES}
    points = [Point(*write, mode) for write in lives.writes for mode in modes[write[0]]]
    points += [*WATCHES, *AWAY]
    wrong = await asyncio.gather(*(lives.with_fault(point) for point in points))
    slowest = sorted(lives.seconds.items(), key=lambda each: -each[1])[:5]
    print(f"{len(points)} points, not reached: {lives.not_reached}, slowest: {slowest}")  # for who runs it
    assert not list(filter(None, wrong)), "\n".join(filter(None, wrong))
    assert len(lives.not_reached) < len(points) / 5
