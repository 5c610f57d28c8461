"""What checking the types of arguments adds to one call, in microseconds.

PYTHONPATH=benchmarks .venv/bin/python -m stoker_bench.probes.argument_check
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from timeit import repeat
from typing import Any
from uuid import UUID

from stoker import Stoker

CALLS, ROUNDS = 50_000, 7
app = Stoker("probe")


@dataclass
class Line:
    """A field of an argument."""

    item: str
    count: int


@app.task()
def one(order: int) -> None:
    """One scalar."""


@app.task()
def scalars(order: int, to: str, price: float | None = None) -> None:
    """Three scalars."""


@app.task()
def unannotated(order, to, lines):  # type: ignore[no-untyped-def]
    """Takes anything."""


@app.task()
def mixed(order: UUID, lines: list[Line]) -> None:
    """Read back from its JSON."""


def microseconds(call: Callable[[], Any]) -> float:
    """The fastest round's time for one call."""
    return min(repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def main() -> None:
    """Print a line for each kind of call: without the check, with it, the difference."""
    lines = [Line("tea", number) for number in range(5)]
    kinds: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "one int": (one, (7,)),
        "int, str, float": (scalars, (7, "ada@example.org", 1.5)),
        "int, str, int for a float": (scalars, (7, "ada@example.org", 1)),
        "anything": (unannotated, (7, "ada", lines)),
        "UUID, five dataclasses": (mixed, (UUID(int=7), lines)),
    }
    for name, (task, args) in kinds.items():
        without, with_it = (
            microseconds(partial(task.options(check_arguments=checked).prepare, *args)) for checked in (False, True)
        )
        print(f"{name:28} {without:6.2f} {with_it:6.2f} {with_it - without:+6.2f}")


if __name__ == "__main__":
    main()
