"""Which slot of a Redis Cluster a key belongs to, and whom the cluster says has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from stoker.queue.cluster import SLOTS, owners_in, pointed_at, slot_of
from stoker.queue.keys import Keys
from stoker.queue.replies import ErrorReply

ASKED = ("10.0.0.1", 7000)


@pytest.mark.parametrize(
    ("key", "same_as"),
    [
        ("{user1000}.following", "user1000"),
        ("foo{bar}{zap}", "bar"),
        ("foo{{bar}}zap", "{bar"),
    ],
)
def test_only_what_stands_between_the_first_braces_counts(key: str, same_as: str):
    assert slot_of(key) == slot_of(same_as)


def test_where_nothing_stands_there_the_whole_key_counts():
    assert len({slot_of(key) for key in ("foo{}{bar}", "foo", "bar", "foo{bar")}) == 4


def test_the_example_of_the_specification():
    assert slot_of("123456789") == 0x31C3


@given(st.text(st.characters(codec="utf-8")))
def test_another_client_would_look_in_the_same_place(key: str):
    assert slot_of(key) == key_slot(key.encode())


def test_all_keys_of_a_queue_are_in_one_slot():
    keys = Keys("stoker", "emails")
    assert slot_of(keys.ready) == slot_of(keys.events) == slot_of(keys.inbox)


def test_who_has_what():
    owners = owners_in(
        [[0, 99, [b"10.0.0.2", 7001, b"id", []], [b"10.0.0.9", 7009, b"a replica"]], [200, 16383, [None, 7000]]], ASKED
    )
    assert len(owners) == SLOTS
    assert (owners[0], owners[99], owners[100], owners[199]) == (("10.0.0.2", 7001), ("10.0.0.2", 7001), None, None)
    assert owners[200] == owners[16383] == ASKED, "a node without a name of its own has that by which it was asked"


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ("MOVED 3999 127.0.0.1:6381", ("127.0.0.1", 6381)),
        ("MOVED 3999 ::1:6381", ("::1", 6381)),
        ("ASK 3999 redis-2.example.org:6381", ("redis-2.example.org", 6381)),
        ("MOVED 3999 :6381", ("10.0.0.1", 6381)),
    ],
)
def test_where_it_points(said: str, where: tuple[str, int]):
    assert pointed_at(ErrorReply(said), ASKED) == where
