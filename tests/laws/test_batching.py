"""Enqueues that happen at the same time share their way to Redis, and each hears only of its own."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from stoker.errors import RedisUnavailable
from stoker.queue.batching import GATHERED_AT_ONCE, UNDER_WAY_AT_ONCE, Batching
from stoker.queue.records import Answer, Receipt
from stoker.rules.admission import Admission
from tests.waiting import until


def entries(*names: str) -> list[Admission]:
    return cast(list[Admission], list(names))


class Road:
    """The real thing, as far as a gathering sees it: slow until it is opened, and it remembers who went together."""

    def __init__(self) -> None:
        self.trips: list[list[str]] = []
        self.open = asyncio.Event()
        self.breaks = False

    async def full(self) -> None:
        """As many are on their way as may be at once, and everyone else has asked."""
        await until(lambda: len(self.trips) == UNDER_WAY_AT_ONCE)

    async def enqueue(self, party: Sequence[Admission]) -> list[Answer]:
        names = [str(entry) for entry in cast(list[str], party)]
        self.trips.append(names)
        await self.open.wait()
        if self.breaks:
            raise RedisUnavailable("gone")
        return [Receipt(name, None) for name in names]


async def enqueue(gathering: Batching, *names: str) -> list[str]:
    return [cast(Receipt, outcome).id for outcome in await gathering.enqueue(entries(*names))]


async def test_one_alone_goes_at_once() -> None:
    road = Road()
    road.open.set()
    assert await enqueue(Batching(road.enqueue), "a", "b") == ["a", "b"]
    assert road.trips == [["a", "b"]]


async def test_those_who_come_meanwhile_go_together_and_get_their_own() -> None:
    road = Road()
    gathering = Batching(road.enqueue)
    asked = [asyncio.create_task(enqueue(gathering, f"{n}", f"{n}'")) for n in range(10)]
    await road.full()
    road.open.set()
    assert await asyncio.gather(*asked) == [[f"{n}", f"{n}'"] for n in range(10)]
    assert road.trips[:2] == [["0", "0'"], ["1", "1'"]]
    assert [name for trip in road.trips[2:] for name in trip] == [f"{n}{tick}" for n in range(2, 10) for tick in ("", "'")]
    assert len(road.trips) == 3


async def test_no_trip_is_too_large() -> None:
    road = Road()
    gathering = Batching(road.enqueue)
    asked = [asyncio.create_task(enqueue(gathering, *[f"{n}.{m}" for m in range(200)])) for n in range(9)]
    await road.full()
    road.open.set()
    await asyncio.gather(*asked)
    assert max(len(trip) for trip in road.trips) <= GATHERED_AT_ONCE
    assert sum(len(trip) for trip in road.trips) == 1800


async def test_a_round_trip_that_fails_raises_for_every_caller_on_it_and_no_other() -> None:
    road = Road()
    gathering = Batching(road.enqueue)
    road.breaks = True
    asked = [asyncio.create_task(enqueue(gathering, f"{n}")) for n in range(5)]
    await road.full()
    road.open.set()
    for each in asked:
        with pytest.raises(RedisUnavailable):
            await each
    road.breaks = False
    assert await enqueue(gathering, "later") == ["later"]


async def test_a_caller_cancelled_while_it_waits_is_not_sent_and_holds_no_other_back() -> None:
    road = Road()
    gathering = Batching(road.enqueue)
    asked = [asyncio.create_task(enqueue(gathering, f"{n}")) for n in range(5)]
    await road.full()
    asked[3].cancel()
    await asyncio.wait({asked[3]})
    road.open.set()
    assert await asyncio.gather(*asked[:3], asked[4]) == [["0"], ["1"], ["2"], ["4"]]
    assert "3" not in [name for trip in road.trips for name in trip]


async def test_a_caller_cancelled_on_the_way_frees_the_connection() -> None:
    road = Road()
    gathering = Batching(road.enqueue)
    asked = [asyncio.create_task(enqueue(gathering, f"{n}")) for n in range(3)]
    await road.full()
    asked[0].cancel()
    road.open.set()
    assert await asyncio.gather(*asked[1:]) == [["1"], ["2"]]


async def test_a_value_that_cannot_be_sent_fails_its_own_call_alone() -> None:
    road = Road()

    async def enqueue_all(party: Sequence[Admission]) -> list[Answer]:
        answers = await road.enqueue(party)
        if "unsendable" in cast(list[str], party):
            raise TypeError("cannot be packed")
        return answers

    gathering = Batching(enqueue_all)
    first = [asyncio.create_task(enqueue(gathering, name)) for name in "ab"]
    await road.full()
    together = [asyncio.create_task(enqueue(gathering, name)) for name in ("c", "unsendable", "d")]
    await asyncio.sleep(0)
    road.open.set()
    assert await asyncio.gather(*first) == [["a"], ["b"]]
    c, failed, d = await asyncio.gather(*together, return_exceptions=True)
    assert (c, d) == (["c"], ["d"])
    assert isinstance(failed, TypeError)
