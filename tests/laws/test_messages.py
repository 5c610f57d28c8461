"""The wire format: what is written is read back, what JSON cannot carry is refused, ids sort as they were made."""

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import Invalid
from stoker.rules.message import (
    MAX_PAYLOAD_BYTES,
    IdFactory,
    Message,
    check_id,
    check_payload,
    check_priority,
    check_queue,
    decode,
    encode,
    encode_payload,
    same_task,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
payloads = st.dictionaries(texts, json_values, max_size=5)
messages = st.builds(
    Message,
    id=st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=1, max_size=26),
    task=texts.filter(bool),
    payload=payloads.map(encode_payload),
    queue=st.just("emails"),
    created=st.integers(0, 2**48),
    priority=st.integers(-100, 100),
    trace=st.dictionaries(texts, texts, max_size=2),
    max_retries=st.none() | st.integers(0, 1000),
    timeout=st.none() | st.floats(0.001, 1e6),
)


@given(messages)
def test_an_envelope_is_read_back_as_it_was_written(message: Message) -> None:
    assert decode(encode(message)) == message


@given(messages)
def test_an_envelope_is_plain_json(message: Message) -> None:
    assert json.loads(encode(message))["task"] == message.task


@given(st.binary())
def test_any_other_bytes_are_refused(garbage: bytes) -> None:
    with pytest.raises(Invalid, match="envelope"):
        decode(garbage)


def test_an_unknown_field_of_a_newer_version_is_passed_over() -> None:
    envelope = json.loads(encode(Message("1", "add", msgspec.Raw(b"{}"), "emails", 1)))
    assert decode(json.dumps({**envelope, "of_the_future": 1}).encode()).task == "add"


@given(payloads)
def test_a_payload_is_kept_as_it_is(payload: dict[str, object]) -> None:
    assert msgspec.json.decode(encode_payload(payload)) == payload


def ring() -> dict[str, object]:
    itself: dict[str, object] = {}
    itself["again"] = itself
    return itself


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"when": object()}, id="an object of some class"),
        pytest.param([1, 2], id="a list: arguments have names"),
        pytest.param("text", id="a text"),
        pytest.param(None, id="nothing"),
        pytest.param({"file": "\udcff"}, id="text that is not Unicode"),
        pytest.param(ring(), id="a ring"),
        pytest.param({"text": "x" * MAX_PAYLOAD_BYTES}, id="more than 256 KiB"),
    ],
)
def test_a_payload_that_is_refused(payload: object) -> None:
    with pytest.raises(Invalid, match="payload"):
        encode_payload(payload)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="no bytes"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{} {}", id="two objects"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, id="nested too deep to be read"),
        pytest.param(b'{"a":"\xff"}', id="bytes that are not UTF-8"),
    ],
)
def test_json_that_is_no_payload(raw: bytes) -> None:
    with pytest.raises(Invalid, match="payload"):
        check_payload(raw)


def test_the_limit_is_meant_in_bytes_and_inclusive() -> None:
    frame = len('{"text":""}')
    assert len(encode_payload({"text": "x" * (MAX_PAYLOAD_BYTES - frame)})) == MAX_PAYLOAD_BYTES
    with pytest.raises(Invalid, match=f"{MAX_PAYLOAD_BYTES + 1} bytes"):
        encode_payload({"text": "x" * (MAX_PAYLOAD_BYTES - frame + 1)})


@pytest.mark.parametrize("name", ["a", "emails", "shop.emails-2", "0", "a" * 63])
def test_a_good_queue_name(name: str) -> None:
    assert check_queue(name) == name


@pytest.mark.parametrize("name", ["", "Emails", "-a", "a-", ".", "a b", "a:b", "{a}", "é", "a" * 64, "a\n"])
def test_a_bad_queue_name(name: str) -> None:
    with pytest.raises(Invalid, match="queue name"):
        check_queue(name)


@pytest.mark.parametrize("task_id", ["x", "order-42", "~!{}:/", "a" * 128])
def test_a_good_id(task_id: str) -> None:
    assert check_id(task_id) == task_id


@pytest.mark.parametrize("task_id", ["", "a b", "a\n", "é", "\x00", "a" * 129])
def test_a_bad_id(task_id: str) -> None:
    with pytest.raises(Invalid, match="task id"):
        check_id(task_id)


@pytest.mark.parametrize("priority", [-100, 0, 100])
def test_a_good_priority(priority: int) -> None:
    assert check_priority(priority) == priority


@pytest.mark.parametrize("priority", [-101, 101, 10**30])
def test_a_bad_priority(priority: int) -> None:
    with pytest.raises(Invalid, match="priority"):
        check_priority(priority)


def test_two_envelopes_ask_for_the_same_work_whenever_they_were_made() -> None:
    one = Message("1", "add", msgspec.Raw(b'{"a":1}'), "emails", 1, trace={"traceparent": "x"})
    assert same_task(one, msgspec.structs.replace(one, created=2, trace={}, priority=5))
    assert not same_task(one, msgspec.structs.replace(one, task="subtract"))
    assert not same_task(one, msgspec.structs.replace(one, payload=msgspec.Raw(b'{"a":2}')))


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([0] * 50, id="while the clock stands still"),
        pytest.param([1] * 50, id="while it runs"),
        pytest.param([5, -3600_000, 1, -1, 0, 7200_000, 1], id="while it jumps back and forth"),
    ],
)
def test_ids_sort_in_the_order_they_were_made(monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
    now = 1_800_000_000_000
    new_id, made = IdFactory(), []
    for step in steps:
        now += step
        monkeypatch.setattr(time, "time_ns", lambda now=now: now * 1_000_000)
        made.append(new_id())
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_is_a_ulid() -> None:
    made = IdFactory()()
    assert len(made) == 26
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    milliseconds = sum(digits.index(digit) << 5 * place for place, digit in enumerate(reversed(made[:10])))
    assert abs(milliseconds - time.time() * 1000) < 60_000
