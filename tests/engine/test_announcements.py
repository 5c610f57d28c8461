"""What templates announce about their tasks, as people read it."""

from typing import Any

import msgspec
import pytest

from stoker.queue.scripts import run
from stoker.rules.announcement import MAX_NAMES, MOST_BYTES, AnnouncedTemplate, describe
from tests.engine.line import QUEUE, Line, now

SCHEMA = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"], "additionalProperties": False}


async def described(line: Line, template: str, schemas: dict[str, bytes], **options: bool) -> bool:
    [wanted] = await run(line.redis, line.broker.describe_call(template, describe(schemas), **options))
    return bool(wanted)


@pytest.mark.every_server
async def test_names_versions_and_schemas_are_read_back(line: Line) -> None:
    schemas = {"send": msgspec.json.encode(SCHEMA)}
    await line.announce("v1", {"send": 2, "add": 0})
    assert await described(line, "v1", schemas)
    await line.pass_time(5)
    await line.announce("large", None)
    assert await line.inspector.announcements(QUEUE) == [
        AnnouncedTemplate("large"),
        AnnouncedTemplate("v1", {"send": 2, "add": 0}, {"send": SCHEMA}),
    ]


async def test_a_description_is_wanted_once_for_all_workers_of_a_template(line: Line) -> None:
    schemas = {"send": b'{"type":"object"}'}
    assert not await described(line, "v1", schemas), "its names come first"
    await line.announce("v1", {"send": 0})
    assert await described(line, "v1", schemas, ask=True)
    assert await described(line, "v1", schemas)
    assert not await described(line, "v1", schemas, ask=True)
    assert await described(line, "v1", {"send": b'{"type":"array"}'}, ask=True), "a task was declared since"


async def test_a_template_that_is_forgotten_leaves_no_description(line: Line) -> None:
    for number in range(60):
        await line.announce(f"v{number}", {"send": 0}, worker="w")
        await described(line, f"v{number}", {"send": b"{}"})
        await line.pass_time(1)
    assert len(await line.inspector.announcements(QUEUE)) == await now(line.redis.hlen(line.keys.schemas)) == 50


async def test_schemas_of_a_template_are_bounded(line: Line) -> None:
    """The largest are left out, and the description says how many."""
    schemas = {f"task-{number:03}": b'{"title":"%s"}' % (b"x" * (number * 10)) for number in range(MAX_NAMES)}
    await line.announce("v1", dict.fromkeys(schemas, 0))
    assert await described(line, "v1", schemas)
    [found] = await line.inspector.announcements(QUEUE)
    assert 0 < found.left_out == MAX_NAMES - len(found.schemas) < MAX_NAMES
    assert "task-000" in found.schemas
    assert "task-199" not in found.schemas
    stored = await now(line.redis.hget(line.keys.schemas, "v1"))
    assert MOST_BYTES - 4096 < len(stored) < MOST_BYTES + 200


def of(**values: Any) -> bytes:
    return b"0123456789abcdef " + msgspec.json.encode({"v": 1, "schemas": {}} | values)


@pytest.mark.parametrize(
    ("names", "description", "expected"),
    [
        pytest.param(b"{", b"{", AnnouncedTemplate("v1"), id="no JSON"),
        pytest.param(b"[]", b"7", AnnouncedTemplate("v1"), id="other types"),
        pytest.param(b'{"a":-1}', of(v=2), AnnouncedTemplate("v1"), id="out of range, and of a newer version"),
        pytest.param(b'{"a":"x"}', of(schemas=[]), AnnouncedTemplate("v1"), id="wrong values"),
        pytest.param(b"[" * 100_000, b" " + b"[" * 60_000, AnnouncedTemplate("v1"), id="nested"),
        pytest.param(b"\xff", b"\xff \xff", AnnouncedTemplate("v1"), id="no text"),
        pytest.param(b'{"a":1}', of(schemas={"a": 7, "b" * 300: {"x": 1}}), AnnouncedTemplate("v1", {"a": 1}), id="no schemas"),
        pytest.param(
            b'{"a":1}',
            of(left_out=10**12, hooks=["h" * 100] * 40),
            AnnouncedTemplate("v1", {"a": 1}, {}, MOST_BYTES, ("h" * 64,) * 32),
            id="too many",
        ),
        pytest.param(b'{"a":1}', of(schemas={"a": {"x": "y" * 70_000}}), AnnouncedTemplate("v1", {"a": 1}), id="too large"),
        pytest.param(msgspec.json.encode({f"t{at}": 0 for at in range(500)}), b"", AnnouncedTemplate("v1"), id="too many names"),
    ],
)
async def test_nothing_that_is_stored_is_trusted(line: Line, names: bytes, description: bytes, expected: AnnouncedTemplate) -> None:
    await now(line.redis.zadd(line.keys.templates, {"v1": 1, "no template!": 2, b"\xff": 3}))
    await now(line.redis.hset(line.keys.announced, "v1", names))
    await now(line.redis.hset(line.keys.schemas, "v1", description))
    assert await line.inspector.announcements(QUEUE) == [expected]


async def test_keys_of_other_types_and_a_flood_are_read(line: Line) -> None:
    for key in (line.keys.templates, line.keys.announced, line.keys.schemas):
        await now(line.redis.set(key, "x"))
    assert await line.inspector.announcements(QUEUE) == []
    await line.redis.delete(line.keys.templates)
    await now(line.redis.zadd(line.keys.templates, {f"v{number}": number for number in range(5000)}))
    assert len(await line.inspector.announcements(QUEUE)) == 200
