"""Arguments become JSON and come back as declared; what does not fit is refused, and the refusal names the place."""

import collections
import dataclasses
import enum
import inspect
import math
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, NoReturn, NotRequired, Optional, TypedDict, TypeVar, get_origin
from uuid import UUID

import msgspec
import pytest

from stoker.errors import Invalid
from stoker.task.signature import Signature


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Price(msgspec.Struct):
    cents: int
    currency: str = "EUR"


class Card(msgspec.Struct, tag=True):
    number: str


class Invoice(msgspec.Struct, tag=True):
    days: int


@dataclasses.dataclass
class Line:
    item: str
    price: Price
    tags: set[str] = dataclasses.field(default_factory=set)


class Address(TypedDict):
    street: str
    number: NotRequired[int]


class Point(NamedTuple):
    x: float
    y: float


class Choosy(msgspec.Struct):
    """A type with rules of its own."""

    age: int

    def __post_init__(self) -> None:
        if self.age < 18:
            raise ValueError("must be of age")
        if self.age > 100:
            raise KeyError(self.age)


Customer = NewType("Customer", int)
Positive = Annotated[int, msgspec.Meta(gt=0)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=5, pattern="^[a-z]+$")]


def signature(hint: Any, default: Any = ..., result: Any = None) -> Signature:
    """Of a function with one parameter, `value`."""

    def keep(value: Any) -> Any: ...

    keep.__annotations__ = {"value": hint, "return": result}
    if default is not ...:
        keep.__defaults__ = (default,)
    return Signature("keep", keep)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        pytest.param(int, 7, id="int"),
        pytest.param(float, 0.1, id="float"),
        pytest.param(str, "grüße", id="str"),
        pytest.param(bool, True, id="bool"),
        pytest.param(bytes, b"\x00\xff", id="bytes"),
        pytest.param(None, None, id="None"),
        pytest.param(datetime, datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC), id="a moment"),
        pytest.param(datetime, datetime(2030, 1, 2, tzinfo=timezone(timedelta(hours=2))), id="a moment elsewhere"),
        pytest.param(datetime, datetime(2030, 1, 2), id="a moment without a zone"),
        pytest.param(date, date(2030, 1, 2), id="date"),
        pytest.param(time, time(3, 4, 5), id="time"),
        pytest.param(timedelta, timedelta(days=400, microseconds=1), id="timedelta"),
        pytest.param(UUID, UUID(int=7), id="UUID"),
        pytest.param(Decimal, Decimal("1.10"), id="Decimal keeps its digits"),
        pytest.param(Colour, Colour.RED, id="Enum"),
        pytest.param(Size, Size.LARGE, id="IntEnum"),
        pytest.param(Literal["a", 2], 2, id="Literal"),
        pytest.param(list[datetime], [datetime(2030, 1, 2, tzinfo=UTC)], id="list"),
        pytest.param(set[int], {1, 2}, id="set"),
        pytest.param(tuple[int, str], (1, "a"), id="tuple"),
        pytest.param(tuple[int, ...], (1, 2, 3), id="tuple of any length"),
        pytest.param(dict[str, list[Decimal]], {"a": [Decimal(1)]}, id="lists in a dict"),
        pytest.param(dict[int, str], {7: "a"}, id="keys that are numbers"),
        pytest.param(dict[UUID, date], {UUID(int=7): date(2030, 1, 2)}, id="keys that are UUIDs"),
        pytest.param(Optional[UUID], None, id="Optional, left open"),  # noqa: UP045
        pytest.param(UUID | None, UUID(int=7), id="Optional, given"),
        pytest.param(int | str | list[int], [1], id="union"),
        pytest.param(Price, Price(7), id="Struct"),
        pytest.param(Card | Invoice, Invoice(30), id="union of tagged Structs"),
        pytest.param(Line, Line("tea", Price(7), {"hot"}), id="dataclass with a Struct"),
        pytest.param(list[Line], [Line("tea", Price(7))], id="list of dataclasses"),
        pytest.param(Address, {"street": "Main", "number": 7}, id="TypedDict"),
        pytest.param(Address, {"street": "Main"}, id="TypedDict with a part left out"),
        pytest.param(Point, Point(0.5, 1), id="NamedTuple"),
        pytest.param(Customer, 7, id="NewType"),
        pytest.param(Positive, 7, id="a number within its bounds"),
        pytest.param(Name, "ada", id="a text within its bounds"),
        pytest.param(Any, {"a": [1, None, "x"]}, id="Any"),
        pytest.param(object, [1, 2], id="object"),
    ],
)
def test_what_is_sent_arrives(hint: Any, value: Any) -> None:
    both = signature(hint, result=hint)
    both.check()
    arrived = both.decode(both.encode({"value": value}))["value"]
    assert arrived == value
    assert type(arrived) is type(value)
    assert both.decode_result(msgspec.json.encode(value)) == value


@pytest.mark.parametrize(
    ("hint", "sent", "words"),
    [
        pytest.param(int, '"seven"', "Expected `int`, got `str` - at `$.value`", id="a text for a number"),
        pytest.param(int, '"7"', "Expected `int`, got `str` - at `$.value`", id="a number in quotes"),
        pytest.param(int, "7.5", "Expected `int`, got `float` - at `$.value`", id="a fraction"),
        pytest.param(int, "null", "Expected `int`, got `null` - at `$.value`", id="nothing where something is due"),
        pytest.param(datetime, '"tomorrow"', "Invalid RFC3339 encoded datetime - at `$.value`", id="no moment"),
        pytest.param(timedelta, '"an hour"', "Invalid ISO8601 duration - at `$.value`", id="no duration"),
        pytest.param(UUID, '"7"', "Invalid UUID - at `$.value`", id="no UUID"),
        pytest.param(Decimal, '"much"', "Invalid decimal string - at `$.value`", id="no decimal"),
        pytest.param(bytes, '"%"', "Invalid base64 encoded string - at `$.value`", id="no bytes"),
        pytest.param(Colour, '"green"', "Invalid enum value 'green' - at `$.value`", id="no member"),
        pytest.param(Literal["a"], '"b"', "Invalid enum value 'b' - at `$.value`", id="another literal"),
        pytest.param(list[int], '[1, "2"]', "got `str` - at `$.value[1]`", id="an item"),
        pytest.param(dict[str, int], '{"a": "b"}', "got `str` - at `$.value[...]`", id="a value of a dict"),
        pytest.param(Price, '{"cents": "7"}', "got `str` - at `$.value.cents`", id="a field of a Struct"),
        pytest.param(Price, "{}", "missing required field `cents` - at `$.value`", id="a field that is missing"),
        pytest.param(list[Line], '[{"item": "a", "price": {"cents": []}}]', "at `$.value[0].price.cents`", id="far inside"),
        pytest.param(Address, '{"street": 7}', "at `$.value.street`", id="a key of a TypedDict"),
        pytest.param(Point, "[1]", "Expected `array` of length 2 - at `$.value`", id="half a NamedTuple"),
        pytest.param(Card | Invoice, '{"type": "Cash"}', "Invalid value 'Cash' - at `$.value.type`", id="an unknown tag"),
        pytest.param(Positive, "0", "Expected `int` >= 1 - at `$.value`", id="beyond its bounds"),
        pytest.param(Name, '"Ada"', "matching regex '^[a-z]+$' - at `$.value`", id="another pattern"),
        pytest.param(list[Choosy], '[{"age": 7}]', "must be of age - at `$.value[0]`", id="a rule of the type's own"),
        pytest.param(Choosy, '{"age": 101}', "KeyError: 101", id="a rule that fails in its own way"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(hint: Any, sent: str, words: str) -> None:
    with pytest.raises(Invalid) as refusal:
        signature(hint).decode(b'{"value": %s}' % sent.encode())
    assert words in str(refusal.value)
    assert str(refusal.value).startswith("arguments do not fit keep(value: ")


def test_a_default_is_the_functions_own_and_is_not_sent() -> None:
    both = signature(int, default=7)
    assert both.decode(both.encode(both.bind((), {}))) == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(object(), "argument value of keep cannot be written as JSON: JSON carries no `object`", id="an object"),
        pytest.param([{"a": {1j}}], "argument value of keep cannot be written as JSON: JSON carries no `complex`", id="far inside"),
        pytest.param(iter([1]), "JSON carries no `list_iterator`", id="an iterator"),
        pytest.param(
            {(1, 2): 3},
            "argument value of keep cannot be written as JSON: JSON carries no `tuple` as a key",
            id="keys that JSON lacks",
        ),
        pytest.param("\udcff", "argument value of keep cannot be written as JSON", id="text that is no Unicode"),
        pytest.param(math.nan, "argument value of keep .*no numbers but finite ones", id="not a number"),
        pytest.param({"a": [Point(0, math.inf), None]}, "argument value of keep .*no numbers but finite ones", id="no end"),
        pytest.param("x" * 300_000, "the payload has 300012 bytes, at most 262144 are allowed", id="too much"),
    ],
)
def test_what_json_cannot_carry_is_refused_before_it_is_sent(value: object, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        signature(Any).encode({"value": value})


def test_nothing_is_wrong_with_nothing() -> None:
    assert bytes(signature(Any).encode({"value": [None, {"a": None}, 1.5]})) == b'{"value":[null,{"a":null},1.5]}'


def loop() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def test_what_holds_itself_is_refused() -> None:
    with pytest.raises(Invalid, match="argument value of keep cannot be written"):
        signature(Any).encode({"value": loop()})


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        pytest.param(b'"seven"', int, "the result of keep is not what it declares: Expected `int`, got `str`", id="another type"),
        pytest.param(b'[{"cents": null}]', list[Price], "at `\\$\\[0\\].cents`", id="far inside"),
        pytest.param(
            b'{"age": 101}', Choosy, "the result of keep cannot be read: KeyError: 101", id="a rule that fails in its own way"
        ),
    ],
)
def test_a_result_that_is_not_what_its_task_declares_is_refused(value: bytes, hint: Any, words: str) -> None:
    """An older worker may have returned something else."""
    with pytest.raises(Invalid, match=words):
        signature(int, result=hint).decode_result(value)


@pytest.mark.parametrize("hint", [None, Any, NoReturn, object, Iterator[int]], ids=str)
def test_a_result_that_says_little_is_declared_all_the_same(hint: Any) -> None:
    signature(int, result=hint).check()


@pytest.mark.parametrize(
    ("hint", "result"),
    [
        pytest.param(Price | Line, None, id="a union that JSON cannot tell apart"),
        pytest.param(int, Price | Line, id="such a result"),
        pytest.param("Unknown", None, id="a name that nobody knows"),
    ],
)
def test_a_declaration_that_json_cannot_keep_is_refused(hint: Any, result: Any) -> None:
    with pytest.raises(Invalid, match="task keep: its type hints cannot be used for JSON"):
        signature(hint, result=result).check()


def test_pydantic_is_not_imported_by_those_who_do_not_use_it() -> None:
    code = """
import sys
from stoker import Context, Invalid, Stoker
from stoker.worker.run.outcome import returned

app = Stoker("shop")

@app.task()
def double(ctx: Context, number: int) -> int: ...

call = double.prepare(7)
declaration = call.origin.declaration
declaration.check()
assert declaration.decode_arguments(call.payload) == {"number": 7}
assert declaration.decode_result(returned("double", 14).value) == 14
try:
    double.prepare(object())
except Invalid as error:
    assert "JSON carries no `object`" in str(error), error
print("pydantic" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


class _Text(str):
    """As markupsafe.Markup."""


class _Whole(int):
    pass


class _Real(float):
    """As numpy.float64."""


class _Bytes(bytes):
    pass


class _Money(Decimal):
    pass


class _Frozen(datetime):
    """As freezegun.FakeDatetime, pendulum.DateTime, pandas.Timestamp."""


class _Day(date):
    pass


class _Hour(time):
    pass


class _Span(timedelta):
    pass


class _Id(UUID):
    pass


@pytest.mark.parametrize(
    ("value", "base"),
    [
        (_Text("<b>"), "<b>"),
        (_Whole(7), 7),
        (_Real(0.1), 0.1),
        (_Bytes(b"abc"), b"abc"),
        (_Money("1.10"), Decimal("1.10")),
        (_Frozen(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
        (_Frozen(2030, 1, 2), datetime(2030, 1, 2)),
        (_Day(2030, 1, 2), date(2030, 1, 2)),
        (_Hour(1, 2, 3), time(1, 2, 3)),
        (_Span(1, 2, 3), timedelta(1, 2, 3)),
        (_Id(int=7), UUID(int=7)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_a_subclass_goes_as_its_base(value: Any, base: Any) -> None:
    def task(a: Any, b: list[Any]) -> None: ...

    signature = Signature("task", task)
    assert signature.encode({"a": value, "b": [value]}) == signature.encode({"a": base, "b": [base]})


def test_a_subclass_of_float_that_is_no_number_is_refused() -> None:
    def task(a: float) -> None: ...

    with pytest.raises(Invalid, match="argument a of task"):
        Signature("task", task).encode({"a": _Real("nan")})


class _Own:
    pass


@dataclasses.dataclass
class _Holder:
    path: pathlib.Path


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        (pathlib.Path, "Path"),
        (list[pathlib.Path], "Path"),
        (dict[str, pathlib.Path | None], "Path"),
        (Iterable[int], "Iterable"),
        (collections.deque, "deque"),
        (_Own, "_Own"),
        (_Holder, "Path"),
        (Callable[[], int], "Callable"),
    ],
    ids=str,
)
def test_a_hint_that_json_cannot_be_read_as_is_refused_at_the_start(hint: Any, name: str) -> None:
    def task(a: Any) -> None: ...

    def other() -> Any: ...

    task.__annotations__["a"] = hint
    other.__annotations__["return"] = hint
    with pytest.raises(Invalid, match=f"task task: parameter a cannot be used for JSON: JSON cannot be read as `{name}`"):
        Signature("task", task).check()
    if inspect.isabstract(get_origin(hint)):
        return  # a result may say as little
    with pytest.raises(Invalid, match=f"its result cannot be used for JSON: JSON cannot be read as `{name}`"):
        Signature("other", other).check()


@pytest.mark.parametrize("hint", [object, Any, Iterable, Sequence[int], Mapping[str, int], int | None, TypeVar("T")], ids=str)
def test_a_hint_that_json_is_read_as_passes(hint: Any) -> None:
    def task(a: Any) -> None: ...

    task.__annotations__["a"] = hint
    Signature("task", task).check()
