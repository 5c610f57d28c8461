"""Who serves a queue where two want to."""

import pytest

from stoker_operator.state.claims import Claim, Claims
from stoker_operator.state.ref import Ref

HERE, THERE = ("redis://a", "shop", "emails"), ("redis://b", "shop", "emails")
NEXT_DOOR = ("redis://a", "mail", "emails")
OLD, YOUNG, TWIN = Ref("z", "old"), Ref("a", "young"), Ref("b", "young")


def claim(ref: Ref, created: str, queue: tuple[str, str, str] = HERE) -> Claim:
    return Claim(created, ref, queue)


def test_the_older_wins_whoever_asks_first() -> None:
    claims = Claims()
    young, old = claim(YOUNG, "2026-02-01"), claim(OLD, "2026-01-01")
    assert claims.claim(young) == set()
    assert claims.holder(young) is None
    assert claims.claim(old) == {YOUNG}
    assert (claims.holder(young), claims.holder(old)) == (OLD, None)


def test_of_two_of_the_same_second_the_name_decides() -> None:
    claims = Claims()
    claims.claim(claim(TWIN, "2026-01-01"))
    claims.claim(claim(YOUNG, "2026-01-01"))
    assert claims.holder(claim(TWIN, "2026-01-01")) == YOUNG


@pytest.mark.parametrize("other", [pytest.param(THERE, id="another Redis"), pytest.param(NEXT_DOOR, id="another namespace")])
def test_elsewhere_it_is_another_queue(other: tuple[str, str, str]) -> None:
    claims = Claims()
    claims.claim(claim(OLD, "2026-01-01"))
    assert claims.claim(claim(YOUNG, "2026-02-01", other)) == set()
    assert claims.holder(claim(YOUNG, "2026-02-01", other)) is None


def test_the_next_in_line_is_told_when_the_holder_goes_or_moves() -> None:
    claims = Claims()
    claims.claim(claim(OLD, "2026-01-01"))
    claims.claim(claim(YOUNG, "2026-02-01"))
    assert claims.claim(claim(OLD, "2026-01-01")) == set()  # nothing new, nobody to tell
    assert claims.claim(claim(OLD, "2026-01-01", THERE)) == {YOUNG}
    assert claims.claim(claim(OLD, "2026-01-01")) == {YOUNG}
    assert claims.release(OLD) == {YOUNG}
    assert claims.holder(claim(YOUNG, "2026-02-01")) is None
