"""The types of arguments are judged at enqueue as the worker judges them: it accepts a call exactly where the worker would."""

import dataclasses
import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, PositiveInt

from stoker import INJECTED, Context, Depends, Invalid, InvalidArguments, Stoker, chain
from stoker.task.signature import Signature


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Line:
    item: str
    count: int = 1


class Price(msgspec.Struct):
    cents: int


class Item(BaseModel):
    name: str
    count: PositiveInt = 1


class Half(str):
    """A subclass, which travels as its base."""


Customer = NewType("Customer", int)
HINTS: list[Any] = [
    *(int, str, float, bool, None, Any, object, Customer, bytes, UUID, Decimal, date, datetime, timedelta, Colour, Literal["a", 7]),
    *(
        int | None,
        float | str,
        int | str | None,
        Line | None,
        Item | None,
        UUID | int,
        str | bool,
        Annotated[int, msgspec.Meta(ge=3)],
    ),
    *(list[int], list[Any], dict[str, int], tuple[int, str], set[str], Line, Price, Item, list[Item], PositiveInt, dict),
]
POOL: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        7,
        -1,
        1 << 63,
        1 << 64,
        10**400,
        0.0,
        1.5,
        1e300,
        Decimal("1.5"),
        "",
        "x",
        "7",
        "a",
        "red",
        Half("half"),
    ),
    *("2030-01-01", "P1D", str(UUID(int=7)), UUID(int=7), Colour.RED, b"", b"x"),
    *(date(2030, 1, 1), datetime(2030, 1, 1), datetime(2030, 1, 1, tzinfo=UTC), timedelta(1)),
    *(Line("tea"), Line(cast(str, 7)), {"item": "tea"}, Price(1), Price(cast(int, "1")), {"cents": 7}),
    *(Item(name="tea"), Item.model_construct(name="tea", count=0), {"name": "tea"}, {"name": "a", "count": "7"}, [Item(name="a")]),
    *([], [1], ["1"], (1, "a"), {"a", "b"}, {"a": 1}, {1: 2}, [[None]]),
]
VALUES = st.one_of(
    st.sampled_from(POOL),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    st.dictionaries(st.text(max_size=2).filter(str.isascii), st.integers(0, 3), max_size=2),
)


class Parameter(msgspec.Struct):
    """One parameter, and the value that a call gives it; without one, its default stays."""

    hint: Any
    value: Any
    annotated: bool
    default: bool
    given: bool


PARAMETERS = st.lists(
    st.builds(Parameter, st.sampled_from(HINTS), VALUES, st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=4,
)


def function_of(parameters: list[Parameter], wants_context: bool) -> Any:
    """A function with these parameters; defaults are of no type that any of them takes, and some are injected."""
    names = [f"p{at}" for at in range(len(parameters))]
    ordered = sorted(zip(names, parameters, strict=True), key=lambda each: each[1].default)
    written = [f"{name}=UNLIKE" if each.default else name for name, each in ordered]
    head = ["ctx"] if wants_context else []
    source = f"def function({', '.join([*head, *written, 'db=INJECTED'])}): ..."
    scope: dict[str, Any] = {"UNLIKE": object(), "INJECTED": INJECTED}
    exec(source, scope)
    function = scope["function"]
    function.__annotations__ = {name: each.hint for name, each in zip(names, parameters, strict=True) if each.annotated}
    function.__annotations__ |= {"db": Annotated[int, Depends(lambda: 7)]} | ({"ctx": Context} if wants_context else {})
    return function


def test_every_type_is_judged_alike_at_both_ends() -> None:
    for hint in HINTS:
        alone = Parameter(hint, None, annotated=True, default=False, given=True)
        signature = Signature("t", function_of([alone], wants_context=False))
        for value in POOL:
            judged_alike(signature, {"p0": value})


@settings(max_examples=200)
@given(parameters=PARAMETERS, wants_context=st.booleans())
def test_enqueue_accepts_exactly_what_the_worker_accepts(parameters: list[Parameter], wants_context: bool) -> None:
    signature = Signature("t", function_of(parameters, wants_context))
    judged_alike(signature, {f"p{at}": each.value for at, each in enumerate(parameters) if each.given or not each.default})


def judged_alike(signature: Signature, arguments: dict[str, Any]) -> None:
    """Whether enqueue and the worker refuse them in the same words; binary data for other types is refused by the caller alone."""
    bound = signature.bind((), arguments)
    payload = signature.encode(bound)
    at_enqueue = _refusal(lambda: signature.check_arguments(bound, payload))
    if "JSON carries no binary data" in at_enqueue:
        assert any(isinstance(value, bytes) for value in arguments.values())
    else:
        assert at_enqueue == _refusal(lambda: signature.decode(payload)), arguments


def _refusal(call: Any) -> str:
    try:
        call()
    except InvalidArguments as error:
        return str(error)
    return ""


def example(order: int, note: str = "", price: float | None = None, lines: list[Line] | None = None) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs", "parameter", "words"),
    [
        pytest.param(("7",), {}, "order", "Expected `int`, got `str` - at `$.order`", id="a number in quotes"),
        pytest.param((7.5,), {}, "order", "Expected `int`, got `float`", id="a fraction"),
        pytest.param((True,), {}, "order", "Expected `int`, got `bool`", id="a bool is no number"),
        pytest.param((None,), {}, "order", "Expected `int`, got `null`", id="nothing"),
        pytest.param((7,), {"price": "1"}, "price", "Expected `float | null`, got `str`", id="given by name"),
        pytest.param((7,), {"lines": [Line("tea", cast(int, "1"))]}, "lines", "- at `$.lines[0].count`", id="within a list"),
        pytest.param((7, b"\xff"), {}, "note", "argument note of t is bytes", id="binary data names base64 and references"),
    ],
)
def test_a_refusal_names_the_parameter_and_its_type(
    args: tuple[Any, ...], kwargs: dict[str, Any], parameter: str, words: str
) -> None:
    task: Any = Stoker("shop").task(name="t")(example)
    with pytest.raises(InvalidArguments) as refused:
        task.prepare(*args, **kwargs)
    assert refused.value.field == parameter
    assert words in str(refused.value)


def test_bytes_travel_in_base64_where_they_are_declared() -> None:
    def binary(data: bytes, more: bytes | None = None, any_but: str = "") -> None: ...

    task: Any = Stoker("shop").task()(binary)
    assert bytes(task.prepare(b"\xff", more=b"\x00").payload) == b'{"data":"/w==","more":"AA=="}'
    with pytest.raises(InvalidArguments, match=r"base64.*pass a reference"):
        task.prepare(b"", any_but=b"hi")


def test_a_datetime_keeps_its_zone_as_an_offset_or_has_none_and_a_parameter_may_insist_on_one() -> None:
    def at(free: datetime, zoned: Annotated[datetime, msgspec.Meta(tz=True)] | None = None) -> None: ...

    task: Any = Stoker("shop").task(name="t")(at)
    signature = Signature("t", at)
    for moment in (datetime(2030, 1, 1), datetime(2030, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))):
        [arrived] = signature.decode(bytes(task.prepare(moment).payload)).values()
        assert (arrived, arrived.utcoffset()) == (moment, moment.utcoffset())
    with pytest.raises(InvalidArguments, match=r"Expected `datetime` with a timezone component - at `\$\.zoned`"):
        task.prepare(datetime.now(UTC), datetime(2030, 1, 1))


def test_the_check_is_off_for_an_app_or_for_a_call() -> None:
    app, trusting = Stoker("shop"), Stoker("shop", check_arguments=False)
    task: Any = app.task(name="t")(example)
    trusted: Any = trusting.task(name="t")(example)
    wrong = b'{"order":"7"}'
    assert bytes(task.options(check_arguments=False).prepare("7").payload) == wrong
    assert bytes(trusted.prepare("7").payload) == wrong
    with pytest.raises(InvalidArguments):
        trusted.options(check_arguments=True).prepare("7")
    with pytest.raises(InvalidArguments):
        task.options(priority=3).prepare("7")


def test_what_the_previous_result_fills_is_not_checked_and_the_rest_is() -> None:
    app = Stoker("shop")

    @app.task()
    def total(lines: list[Line], factor: int, rest: list[int]) -> int:
        return len(lines) * factor + sum(rest)

    @app.task()
    def lines() -> list[Line]:
        return []

    chain(lines.prepare(), total.piped(2, rest=[1]))
    with pytest.raises(InvalidArguments, match=r"`\$\.rest\[0\]`"):
        total.piped(2, rest=cast(Any, ["1"]))
    with pytest.raises(InvalidArguments, match=r"`\$\.factor`"):
        total.piped(cast(int, "2"), rest=[])


def test_hints_that_no_worker_starts_with_are_refused_at_the_first_call() -> None:
    def ambiguous(when: datetime | timedelta) -> None: ...

    task: Any = Stoker("shop").task(name="t")(ambiguous)
    with pytest.raises(Invalid, match="task t: its type hints cannot be used for JSON"):
        task.prepare(timedelta(1))
