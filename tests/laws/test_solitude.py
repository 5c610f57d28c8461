"""A task on its last life has the whole process to itself, also one that serves several partitions."""

import asyncio
from dataclasses import dataclass

import pytest

from stoker.worker.loop import solitude
from stoker.worker.loop.solitude import Solitude
from tests.waiting import until


@dataclass(eq=False)
class Partition:
    """The capacity of one partition."""

    idle: bool = True
    looked: int = 0

    def look(self) -> None:
        self.looked += 1


def shared(*members: Partition) -> Solitude:
    process = Solitude()
    for member in members:
        process.join(member, member.look)
    return process


async def test_all_partitions_clear_and_only_one_of_them_asks() -> None:
    first, second = Partition(), Partition(idle=False)
    process = shared(first, second)
    process.clear(first)
    assert not process.admits(second)
    assert not process.exclusive(first), "the other one still holds tasks"
    second.idle = True
    assert process.exclusive(first)
    assert not process.admits(second)


async def test_nobody_takes_tasks_beside_it() -> None:
    first, second = Partition(), Partition()
    process = shared(first, second)
    process.clear(first)
    process.run(first, "fence")
    assert not process.admits(first)
    process.over(first)
    assert process.wanted, "the answer to an older fetch does not end it"
    process.ended("fence of another")
    assert not process.admits(first)
    process.ended("fence")
    assert process.exclusive(first), "it asks for the next one first"
    assert not process.admits(second)


async def test_when_there_is_none_left_all_look_again() -> None:
    first, second = Partition(), Partition()
    process = shared(first, second)
    process.clear(first)
    process.over(second)
    assert process.wanted
    process.over(first)
    assert not process.wanted
    assert (first.looked, second.looked) == (1, 1)
    assert process.admits(first)
    assert not process.exclusive(first)


async def test_who_clears_asks_again_and_the_others_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have taken the task. If the others looked too, their waits would begin anew, and none be idle."""
    monkeypatch.setattr(solitude, "ASK_AGAIN", 0.01)
    first, second = Partition(idle=False), Partition()
    process = shared(first, second)
    process.clear(first)
    assert not process.admits(first)
    await until(lambda: process.admits(first))
    assert not process.admits(second)
    assert not process.exclusive(first)
    process.clear(first)
    assert not process.admits(first)
    first.idle = True
    assert process.exclusive(first)


async def test_a_process_that_clears_in_vain_takes_tasks_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"PATIENCE": 0.02, "REST": 0.05, "ASK_AGAIN": 0.01}.items():
        monkeypatch.setattr(solitude, name, seconds)
    partition = Partition(idle=False)
    process = shared(partition)
    for _ in range(3):
        process.clear(partition)
        await asyncio.sleep(0.02)
    assert process.rests
    process.clear(partition)
    assert process.admits(partition)
    looked = partition.looked
    await asyncio.sleep(0.1)
    assert not process.rests
    assert partition.looked > looked
