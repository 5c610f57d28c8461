"""The doctor and the records beside the tasks: keys of other types, and values that no reader takes."""

from typing import Any

import msgspec
import pytest

from stoker.autoscale.scaling_record import ScalingRecord
from stoker.queue.reads.doctor.records import RECORDS
from stoker.queue.reads.inspector import Inspector
from stoker.queue.scripts import run
from stoker.queue.tallies import Flush, add_tallies
from stoker.rules.announcement import describe
from tests.engine.line import NAMESPACE, QUEUE, Line, now

PERSON = "alice@laptop"


async def recorded(line: Line) -> None:
    await add_tallies(line.redis, line.keys, Flush("w", 1, "v1", {"add": {"started": 1}}, {"started": 1}))
    await line.announce("v1", {"add": 0}, worker="w")
    await line.announce("large", None, worker="w")
    await run(line.redis, line.broker.describe_call("v1", describe({"add": b"{}"})))
    await line.inspector.record_decision(QUEUE, ScalingRecord(0, 1, 1, "ScaleUp"))
    await Inspector(line.redis, NAMESPACE, PERSON).pause(QUEUE)
    await line.inspector.resume(QUEUE)


async def test_records_as_they_are_written_are_sound(line: Line) -> None:
    await recorded(line)
    assert await line.examine() == []


@pytest.mark.every_server
async def test_a_key_of_another_type_is_deleted(line: Line) -> None:
    names = [*(record.name for record in RECORDS), "operations"]
    for name in names:
        await now(line.redis.set(getattr(line.keys, name), "x"))
    found = await line.examine()
    assert [(finding.id, finding.mended) for finding in found] == [(name, False) for name in names]
    assert [finding.mended for finding in await line.examine(mend=True)] == [True] * len(names)
    assert await line.examine() == []
    assert (await line.stats()).totals.mended == len(names)
    await recorded(line)
    assert (await line.inspector.minutes(QUEUE))[0].all.started == 1


NEWER = {"v": 2, "anything": [1]}


async def test_values_that_no_reader_takes_are_removed_and_no_others(line: Line) -> None:
    await recorded(line)
    packed, text = msgspec.msgpack.encode(NEWER), b"0123456789abcdef " + msgspec.json.encode(NEWER)
    client: Any = line.redis
    await client.hset(line.keys.minutes, mapping={"m119": packed, "f255": "w 7"})
    await client.hset(line.keys.versions, "v2", packed)
    await client.hset(line.keys.schemas, "v2", text)
    for book in (line.keys.decisions, line.keys.audit):
        await client.xadd(book, {"e": msgspec.json.encode(NEWER)})
    hashes = [line.keys.minutes, line.keys.versions, line.keys.announced, line.keys.schemas]
    before = {key: await client.hgetall(key) for key in hashes}
    odd = {"m120": packed, "m3": "x", "t": packed, "t432": packed, "f256": "w 7", "": "", "x1": "y"}
    await client.hset(line.keys.minutes, mapping=odd)
    await client.hset(line.keys.versions, mapping={"odd": b"\xc1", "x" * 300: packed, b"\xff": b"{"})
    await client.hset(line.keys.announced, mapping={"odd": "{", "more": "[]"})
    await client.hset(line.keys.schemas, mapping={"odd": "{", "more": b"x {}"})
    for book in (line.keys.decisions, line.keys.audit):
        await client.xadd(book, {"e": "{"})
        await client.xadd(book, {"other": "{}"})
    assert len(await line.examine()) == 18
    assert {finding.mended for finding in await line.examine(mend=True)} == {True}
    assert await line.examine() == []
    assert {key: await client.hgetall(key) for key in hashes} == before
    assert [act.act for act in await line.inspector.audit(QUEUE)] == ["pause"]
    assert await client.xlen(line.keys.audit) == await client.xlen(line.keys.decisions) == 2
