"""Decisions of the autoscaler as they are recorded: when one is worth it, and what is read back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stoker.autoscale.decide import Decision, Demand, Memory, ScalingReason
from stoker.autoscale.scaling_record import (
    REASONS_APART,
    ScalingRecord,
    decode_record,
    encode_record,
    scaling_record,
    worth_recording,
)

DEMAND = Demand(ready=7, running=2, due=1, service_time=0.5)
UP = scaling_record(Decision(3, ScalingReason.SCALE_UP, 5, Memory(0, 0)), 1, DEMAND)
STEADY = replace(UP, before=3, reason="Steady")


def test_a_record_says_what_was_decided_from_what() -> None:
    assert ScalingRecord(1, 3, 5, "ScaleUp", ready=7, running=2, due=1, service_time=0.5) == UP


@pytest.mark.parametrize(
    ("new", "last", "seconds", "worth"),
    [
        pytest.param(UP, None, 0, True, id="the first"),
        pytest.param(UP, replace(UP, after=1), 0, True, id="another number, at once"),
        pytest.param(STEADY, UP, 1, False, id="another reason for the same number, soon after"),
        pytest.param(STEADY, UP, REASONS_APART, True, id="another reason for the same number"),
        pytest.param(replace(STEADY, ready=100, wanted=9), STEADY, 1e9, False, id="another demand, with no other decision"),
        pytest.param(replace(UP, error="refused"), UP, 0, True, id="it was refused"),
        pytest.param(replace(UP, error="refused"), replace(UP, error="refused"), 1e9, False, id="it is refused again"),
    ],
)
def test_what_is_worth_recording(new: ScalingRecord, last: ScalingRecord | None, seconds: float, worth: bool) -> None:
    assert worth_recording(new, last, seconds) is worth


def test_a_record_is_read_back_with_its_time() -> None:
    assert decode_record(encode_record(UP), 7) == replace(UP, at=7)


@pytest.mark.parametrize(
    "odd",
    [
        {"before": -1},
        {"after": 1e30},
        {"reason": "x" * 65},
        {"reason": 7},
        {"error": "x" * 501},
        {"service_time": -1},
        {"ready": 1.5},
    ],
)
def test_a_record_with_an_odd_value_is_none(odd: dict[str, Any]) -> None:
    stored = json.loads(encode_record(UP))
    stored["decision"] |= odd
    assert decode_record(json.dumps(stored).encode(), 1) is None


@given(st.binary(max_size=40))
def test_what_is_no_record_reads_as_none(text: bytes) -> None:
    assert decode_record(text, 1) is None


def test_a_newer_version_may_add_fields_but_a_new_format_is_none() -> None:
    stored = json.loads(encode_record(UP))
    stored["decision"]["arrival_rate"] = 3
    assert decode_record(json.dumps(stored).encode(), 0) == UP
    assert decode_record(json.dumps(stored | {"v": 2}).encode(), 0) is None


def test_a_long_error_is_cut() -> None:
    assert len(scaling_record(Decision(1, ScalingReason.STEADY, 1, Memory(0, 0)), 1, DEMAND, "x" * 9999).error) == 500
