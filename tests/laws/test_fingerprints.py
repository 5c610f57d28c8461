"""Failures with one cause have one fingerprint, whatever they say of the task at hand; others have another."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.rules.fingerprint import MESSAGE_CHARACTERS, TEXT_CHARACTERS, fingerprint, normalised


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        pytest.param("order 17 is bad", "order 9 is bad", "order # is bad", id="numbers"),
        pytest.param("took 1.5 s", "took 12.25 s", "took # s", id="fractions"),
        pytest.param("at 2026-05-04 09:00:30", "at 2027-11-14 19:20:01", "at # #", id="moments"),
        pytest.param("10.0.0.7:6379 refused", "10.1.2.3:6380 refused", "# refused", id="addresses"),
        pytest.param("no 8f14e45f-ceea-467f-9a36-dcc2c0a1b2c3", "no 00000000-0000-4000-8000-000000000000", "no #", id="UUIDs"),
        pytest.param(
            "<Shop object at 0x7f30ecb5dc10>", "<Shop object at 0x7f30ec9466d0>", "<Shop object at #>", id="addresses of objects"
        ),
        pytest.param("commit deadbeef1 is gone", "commit 0fb871b is gone", "commit # is gone", id="hex"),
        pytest.param("no key 'anna'", "no key 'bo'", "no key '?'", id="quoted text"),
        pytest.param('no key "anna"', "no key `b o`", "no key '?'", id="in any quotes"),
        pytest.param("a\n  b", "a b", "a b", id="white space"),
    ],
)
def test_what_differs_from_task_to_task_is_left_out(one: str, other: str, both: str) -> None:
    assert normalised(one) == normalised(other) == both


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("ValueError", "shop.ship", "no"), ("TypeError", "shop.ship", "no"), id="type"),
        pytest.param(("ValueError", "shop.ship", "no"), ("ValueError", "shop.pack", "no"), id="place"),
        pytest.param(("ValueError", "shop.ship", "no address"), ("ValueError", "shop.ship", "no stock"), id="message"),
        pytest.param(("E", "", "decade"), ("E", "", "facade"), id="words of letters that are hex digits"),
    ],
)
def test_other_failures_have_another(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert fingerprint(*one) != fingerprint(*other)


def test_in_words() -> None:
    assert fingerprint("ValueError", "shop.orders.ship", "order 17 is bad") == "ValueError in shop.orders.ship: order # is bad"
    assert fingerprint("WorkerLost", "", "") == "WorkerLost"


@given(st.text(max_size=3000), st.text(max_size=500))
def test_bounded_and_stable(message: str, kind: str) -> None:
    assert len(normalised(message)) <= MESSAGE_CHARACTERS
    assert len(fingerprint(kind, "", message)) <= TEXT_CHARACTERS


@pytest.mark.parametrize("part", ["'", "0x", "a", "1-", "f" * 7 + "-", "1."])
def test_a_hostile_message_takes_no_time(part: str) -> None:
    began = time.perf_counter()
    normalised(part * 10_000)
    assert time.perf_counter() - began < 0.2
