"""What makes two tasks the same kind."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import Invalid
from stoker.rules.message import encode_payload, id_of_key
from stoker.rules.unique import Unique

TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(TEXT, JSON, max_size=4)


def kind(unique: Unique, task: str = "t", payload: bytes = b"{}", *args: object, **kwargs: object) -> str:
    return unique.claim(task, payload, args, kwargs).digest


@given(ARGUMENTS)
def test_the_order_of_arguments_does_not_matter(arguments: dict[str, Any]) -> None:
    turned = dict(reversed(arguments.items()))
    assert kind(Unique(), "t", encode_payload(arguments)) == kind(Unique(), "t", encode_payload(turned))


@given(ARGUMENTS, ARGUMENTS)
def test_other_arguments_are_another_kind(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = encode_payload(dict(sorted(one.items()))) == encode_payload(dict(sorted(other.items())))
    assert (kind(Unique(), "t", encode_payload(one)) == kind(Unique(), "t", encode_payload(other))) >= same
    assert kind(Unique(), "t", encode_payload({"n": one})) != kind(Unique(), "t", encode_payload({"m": other}))


def test_the_tasks_name_always_counts() -> None:
    assert kind(Unique(), "a") != kind(Unique(), "b")
    assert kind(Unique(key="x"), "a") != kind(Unique(key="x"), "b")


def test_a_key_stands_for_the_arguments() -> None:
    assert kind(Unique(key="x"), "t", b'{"a":1}') == kind(Unique(key="x"), "t", b'{"a":2}')
    assert kind(Unique(key="{}")) != kind(Unique())


def test_a_function_makes_the_key_of_the_arguments() -> None:
    by_user = Unique(key=lambda user, text="": f"user {user}")
    assert kind(by_user, "t", b"{}", 1, text="a") == kind(by_user, "t", b"{}", 1, "b") == kind(Unique(key="user 1"))
    assert kind(by_user, "t", b"{}", 1) != kind(by_user, "t", b"{}", 2)


def test_mode_and_ttl_do_not_make_another_kind() -> None:
    assert kind(Unique("started", 5)) == kind(Unique("done", 7))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"until": "never"}, "bad until 'never'"),
        ({"ttl": 0}, "bad ttl 0"),
        ({"ttl": float("nan")}, "bad ttl nan"),
        ({"ttl": "1h"}, "bad ttl '1h'"),
        ({"key": ""}, "bad key ''"),
        ({"key": 5}, "bad key 5"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        Unique(**fields)


def test_a_function_that_makes_no_key_is_refused() -> None:
    with pytest.raises(Invalid, match="bad key None"):
        kind(Unique(key=lambda: None))  # type: ignore[arg-type, return-value]


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_an_idempotency_key_is_one_id_in_one_queue(queue: str, key: str, queue2: str, key2: str) -> None:
    assert (id_of_key(queue, key) == id_of_key(queue2, key2)) == ((queue, key) == (queue2, key2))
