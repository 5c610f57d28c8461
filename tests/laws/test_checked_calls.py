"""What passes the check of a call can be sent. So of many calls, all checked before the first is sent, none is left out."""

import math
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import force_setattr

from stoker.errors import Invalid
from stoker.queue.broker import _enqueue_fields
from stoker.rules.call import TaskCall


class Text(str):
    """Not quite a text."""


ODD: list[Any] = [
    *("", "\ud800", "a\ud800", "é", Text("x"), "x" * 300, b"x", Raw(b"{"), Raw(b"\xff")),
    *(10**30, -(10**30), 2**63, 2**64, 1e308, math.nan, math.inf, -math.inf, -1, 0, 1, True, None),
    *({"a": "\ud800"}, {"\ud800": "a"}, {"a": 1}, {Text("a"): Text("b")}, [], ["a"]),
]


@pytest.mark.parametrize("field", TaskCall.__struct_fields__)
def test_a_call_that_is_checked_can_be_encoded(field: str) -> None:
    for value in ODD:
        for others in ({}, {"expires": 5.0}, {"delay": 1.0}):
            call = TaskCall("send", "emails", **others)
            force_setattr(call, field, value)
            try:
                call.check()
            except Invalid:
                continue
            for sent in _enqueue_fields([call.admission(lambda: "id", 1, {})]):
                assert type(sent) in (bytes, str, int, float), (field, value)
                str(sent).encode()
