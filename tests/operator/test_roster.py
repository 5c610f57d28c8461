"""Who serves a queue where two want to."""

from stoker_operator.resources import Ref
from stoker_operator.roster import Claim, Roster

HERE, THERE = ("redis://a", "emails"), ("redis://b", "emails")
OLD, YOUNG, TWIN = Ref("z", "old"), Ref("a", "young"), Ref("b", "young")


def claim(ref: Ref, created: str, place: tuple[str, str] = HERE) -> Claim:
    return Claim(created, ref, place)


def test_the_older_wins_whoever_asks_first() -> None:
    roster = Roster()
    young, old = claim(YOUNG, "2026-02-01"), claim(OLD, "2026-01-01")
    assert roster.claim(young) == set()
    assert roster.holder(young) is None
    assert roster.claim(old) == {YOUNG}
    assert (roster.holder(young), roster.holder(old)) == (OLD, None)


def test_of_two_of_the_same_second_the_name_decides() -> None:
    roster = Roster()
    roster.claim(claim(TWIN, "2026-01-01"))
    roster.claim(claim(YOUNG, "2026-01-01"))
    assert roster.holder(claim(TWIN, "2026-01-01")) == YOUNG


def test_another_redis_is_another_queue() -> None:
    roster = Roster()
    roster.claim(claim(OLD, "2026-01-01"))
    assert roster.claim(claim(YOUNG, "2026-02-01", THERE)) == set()
    assert roster.holder(claim(YOUNG, "2026-02-01", THERE)) is None


def test_the_next_in_line_is_told_when_the_holder_goes_or_moves() -> None:
    roster = Roster()
    roster.claim(claim(OLD, "2026-01-01"))
    roster.claim(claim(YOUNG, "2026-02-01"))
    assert roster.claim(claim(OLD, "2026-01-01")) == set()  # nothing new, nobody to tell
    assert roster.claim(claim(OLD, "2026-01-01", THERE)) == {YOUNG}
    assert roster.claim(claim(OLD, "2026-01-01")) == {YOUNG}
    assert roster.forget(OLD) == {YOUNG}
    assert roster.holder(claim(YOUNG, "2026-02-01")) is None
