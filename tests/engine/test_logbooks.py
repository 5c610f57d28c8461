"""Logbooks: bounded, newest first, and readable whatever is in them."""

from typing import Any, cast

import pytest

from stoker.autoscale.scaling_record import MOST_KEPT, ScalingRecord
from tests.engine.line import QUEUE, Line, now


def decision(after: int) -> ScalingRecord:
    return ScalingRecord(after - 1, after, after, "ScaleUp", ready=after)


@pytest.mark.every_server
async def test_decisions_are_read_newest_first_with_their_times(line: Line) -> None:
    for after in (1, 2, 3):
        await line.inspector.record_decision(QUEUE, decision(after))
    found = await line.inspector.decisions(QUEUE, limit=2)
    assert [each.after for each in found] == [3, 2]
    assert found[0].at >= found[1].at > 1_700_000_000_000
    assert await line.inspector.decisions(f"{QUEUE}:3") == await line.inspector.decisions(QUEUE)


async def test_the_last_five_hundred_are_kept(line: Line) -> None:
    for after in range(1, MOST_KEPT + 10):
        await line.inspector.record_decision(QUEUE, decision(after))
    assert await now(line.redis.xlen(line.keys.decisions)) == MOST_KEPT
    assert (await line.inspector.decisions(QUEUE, MOST_KEPT + 10))[-1].after == 10


async def test_entries_of_others_are_left_out(line: Line) -> None:
    await line.inspector.record_decision(QUEUE, decision(1))
    odd: list[dict[Any, Any]] = [
        {"e": "{"},
        {"e": b"\xff"},
        {"x": "y"},
        {"e": "x" * (5 << 20)},
        {"e": '{"v": 7}'},
        {"e": "[" * 9999},
    ]
    for fields in odd:
        await line.redis.xadd(line.keys.decisions, cast(Any, fields))
    assert [each.after for each in await line.inspector.decisions(QUEUE)] == [1]
    await line.redis.xadd(line.keys.decisions, {"e": "7"}, id=f"{2**63}-1")
    assert [each.after for each in await line.inspector.decisions(QUEUE)] == [1]


async def test_a_key_of_another_type_reads_as_empty(line: Line) -> None:
    await now(line.redis.set(line.keys.decisions, "x"))
    assert await line.inspector.decisions(QUEUE) == []
    await now(line.redis.delete(line.keys.decisions))
    assert await line.inspector.decisions(QUEUE) == []
