"""A worker's name tells whose process it is, and is never mistaken for another's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.rules.names import process_name, runs_on

hosts = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,12}[a-z0-9])?", fullmatch=True)
nonces = st.binary(min_size=3, max_size=3)


@given(hosts, st.integers(1, 4_194_304), nonces)
def test_a_process_runs_on_its_host(host: str, pid: int, nonce: bytes) -> None:
    assert runs_on(process_name(host, pid, nonce), host)


@given(hosts, hosts, st.integers(1, 4_194_304), nonces)
def test_and_on_no_other(host: str, other: str, pid: int, nonce: bytes) -> None:
    assert runs_on(process_name(host, pid, nonce), other) == (host == other)


@pytest.mark.parametrize("other", ["a-1-7", "a", "a-12", "a-1-", "a-", ""])
def test_nor_on_one_whose_name_begins_alike(other: str) -> None:
    assert not runs_on("a-1-7-abcdef", other)


def test_signs_that_a_fence_cannot_hold_are_replaced_on_both_sides() -> None:
    assert process_name("host:1 x", 7, b"abc") == "host-1-x-7-616263"
    assert runs_on("host-1-x-7-616263", "host:1 x")
