"""The claim of a TaskQueue on a queue: the first one has it until it is released or taken over."""

import pytest

from stoker.rules.identity import UNREADABLE, Holder, decode_holder
from tests.engine.line import QUEUE, Line

FIRST = Holder("cluster-1", "shop", "emails", "uid-1")
SECOND = Holder("cluster-1", "shop", "mails", "uid-2")
ELSEWHERE = Holder("cluster-2", "shop", "emails", "uid-3")


async def test_the_first_claim_holds(line: Line) -> None:
    assert await line.inspector.claim(QUEUE, FIRST) == FIRST
    assert await line.inspector.claim(QUEUE, SECOND) == FIRST
    assert await line.inspector.claim(QUEUE, ELSEWHERE) == FIRST
    assert await line.inspector.claim(QUEUE, FIRST) == FIRST


async def test_a_claim_that_stands_is_not_written_again(line: Line) -> None:
    """Each pass of the operator repeats it: replicas and the append-only file must not see that."""
    await line.inspector.claim(QUEUE, FIRST)
    dirty = (await line.redis.info("persistence"))["rdb_changes_since_last_save"]
    await line.inspector.claim(QUEUE, FIRST)
    assert (await line.redis.info("persistence"))["rdb_changes_since_last_save"] == dirty


async def test_only_its_holder_releases_a_claim_or_a_person(line: Line) -> None:
    await line.inspector.claim(QUEUE, FIRST)
    assert await line.inspector.release_claim(QUEUE, SECOND) is None
    assert await line.inspector.claim(QUEUE, SECOND) == FIRST
    assert await line.inspector.release_claim(QUEUE, FIRST) == FIRST
    assert await line.inspector.claim(QUEUE, SECOND) == SECOND
    assert await line.inspector.release_claim(QUEUE) == SECOND
    assert await line.inspector.release_claim(QUEUE) is None


async def test_a_takeover_succeeds_only_from_the_claim_that_was_seen(line: Line) -> None:
    """Between the look and the takeover another may have come."""
    await line.inspector.claim(QUEUE, FIRST)
    assert await line.inspector.claim(QUEUE, SECOND, instead_of=ELSEWHERE) == FIRST
    assert await line.inspector.claim(QUEUE, SECOND, instead_of=FIRST) == SECOND
    assert await line.inspector.claim(QUEUE, ELSEWHERE, instead_of=FIRST) == SECOND


async def test_the_queue_works_on_whoever_claims_it(line: Line) -> None:
    await line.inspector.claim(QUEUE, FIRST)
    await line.enqueue("a")
    [delivery] = await line.fetch()
    assert delivery.id == "a"


@pytest.mark.parametrize(
    "claim",
    [
        FIRST.encode().replace(b"emails", b"../../secrets"),
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"cluster":"c"}',
        FIRST.encode().replace(b"uid-1", b"u" * 254),
    ],
    ids=repr,
)
def test_a_claim_that_nobody_of_us_wrote_has_no_readable_holder(claim: bytes) -> None:
    assert decode_holder(claim) == UNREADABLE
