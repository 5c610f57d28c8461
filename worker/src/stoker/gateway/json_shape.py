"""The shape of JSON before it is parsed: its depth and the number of its items, found without building a value of it.

A parser builds the 2.8 million lists that fit into a body of 8 MiB before they can be counted, and meanwhile no other request is
answered. This scan goes in steps, between which the event loop does other work, and ends at the first excess. What is not JSON
is left to the parser: it stops where the scan goes wrong.
"""

import asyncio
import math
import re
from collections.abc import Iterator
from itertools import accumulate, compress

STEP = 16 * 1024
"""Bytes scanned at a time: 3 ms at worst."""
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_KEPT = b"[]{},"
_DROPPED = bytes(byte for byte in range(256) if byte not in _KEPT)
_TURNS = bytes.maketrans(_KEPT, b"\x01\xff\x01\xff\x00")  # as signed bytes: 1, -1, 0
_COMMAS = bytes.maketrans(_KEPT, b"\x00\x00\x00\x00\x01")


class TooDeep(Exception):
    """It nests too deep, in the item of the outer list with this number (from 0)."""

    def __init__(self, item: int) -> None:
        super().__init__(f"item {item} nests too deep")
        self.item = item


class TooMany(Exception):
    """The outer list has too many items."""


async def check_shape(text: bytes | bytearray, depth: int, items: float = math.inf) -> None:
    """Scan JSON. Raises UnicodeDecodeError unless UTF-8, TooDeep beyond `depth`, TooMany beyond `items` in the outer value."""
    text.decode()
    level, commas = 0, 0
    for structure in _structure(text):
        levels = list(accumulate(memoryview(structure.translate(_TURNS)).cast("b"), initial=level))[1:]
        separators = [each == 1 for each in compress(levels, structure.translate(_COMMAS))]
        if levels and max(levels) > depth:
            first = next(at for at, each in enumerate(levels) if each > depth)
            raise TooDeep(commas + sum(separators[: structure[:first].count(b",")]))
        commas += sum(separators)
        if commas >= items:
            raise TooMany
        level = levels[-1] if levels else level
        if len(text) > STEP:
            await asyncio.sleep(0)


def _structure(text: bytes | bytearray) -> Iterator[bytes]:
    """The brackets and commas outside of strings, for each step."""
    at, within_string = 0, False
    while at < len(text):
        end = at + STEP
        # An escape stays within its step.
        step = bytes(text[at:end])
        if (len(step) - len(step.rstrip(b"\\"))) % 2:
            end += 1
            step = bytes(text[at:end])
        at = end
        parts = (_ESCAPE.sub(b"", step) if b"\\" in step else step).split(b'"')
        yield b"".join(parts[within_string::2]).translate(None, _DROPPED)
        within_string ^= len(parts) % 2 == 0
