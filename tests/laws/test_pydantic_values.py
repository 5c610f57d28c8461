"""pydantic's types as arguments and results: alone, within other types and other types within them."""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import msgspec
import pydantic
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
)
from typing_extensions import TypeAliasType

from stoker.errors import Invalid
from stoker.task.signature import Signature
from stoker.task.values import write

T = TypeVar("T")


class Colour(Enum):
    RED = "red"


class Line(BaseModel):
    item: str
    price: Decimal = Decimal(0)


class Order(BaseModel):
    id: int
    at: datetime
    lines: list[Line] = []
    colour: Colour = Colour.RED

    @field_validator("id")
    @classmethod
    def known(cls, value: int) -> int:
        if value == 13:
            raise ValueError("nobody has that")
        return value


class Shouting(BaseModel):
    """Names of its own on the wire, nothing unknown, and a field that is computed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    user_id: int = Field(alias="userId")
    note: str = Field(default="", validation_alias="n", serialization_alias="N")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def loudly(self) -> str:
        return self.note.upper()


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    pair: tuple[int, int]


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: str


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    coins: int


Payment = Annotated[Card | Cash, Field(discriminator="kind")]


class Page(BaseModel, Generic[T]):
    items: list[T]


@pydantic.dataclasses.dataclass
class Checked:
    age: PositiveInt
    line: Line | None = None


@dataclasses.dataclass
class Plain:
    line: Line


@dataclasses.dataclass
class Boxed(Generic[T]):
    inside: T


class Struct(msgspec.Struct):
    line: Line
    more: list[Line] = []


class Typed(TypedDict):
    lines: dict[str, Line]


class Named(NamedTuple):
    line: Line
    count: int


def even(value: int) -> int:
    if value % 2:
        raise ValueError("is odd")
    return value


def forwarded(value: "list[Order]") -> "Order": ...  # type: ignore[empty-body]


def signature(hint: Any) -> Signature:
    """Of a function with one parameter, `value`."""

    def keep(value: Any) -> Any: ...

    keep.__annotations__ = {"value": hint, "return": hint}
    return Signature("keep", keep)


TEA = Line(item="tea", price=Decimal("1.10"))
ORDER = Order(id=7, at=datetime(2030, 1, 2, tzinfo=UTC), lines=[TEA])


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        pytest.param(Order, ORDER, id="a model"),
        pytest.param(list[Order], [ORDER, ORDER], id="a list of models"),
        pytest.param(dict[str, Order | None], {"a": ORDER, "b": None}, id="a dict of models"),
        pytest.param(Order | None, None, id="no model"),
        pytest.param(Card | Cash, Cash(coins=7), id="a union of models"),
        pytest.param(Order | str | int, "a", id="a union with other types"),
        pytest.param(Payment, Card(number="7"), id="a union with a discriminator"),
        pytest.param(list[Payment], [Cash(coins=7), Card(number="7")], id="a list of such"),
        pytest.param(Page[Line], Page[Line](items=[TEA]), id="a generic model"),
        pytest.param(Shouting, Shouting(userId=7, n="x"), id="aliases and a computed field"),
        pytest.param(Strict, Strict(at=datetime(2030, 1, 2, tzinfo=UTC), pair=(1, 2)), id="a strict model"),
        pytest.param(Checked, Checked(7, TEA), id="pydantic's dataclass"),
        pytest.param(Plain, Plain(TEA), id="a model in a dataclass"),
        pytest.param(list[Boxed[Line]], [Boxed(TEA)], id="a model in a generic dataclass"),
        pytest.param(Struct, Struct(TEA, [TEA]), id="models in a Struct"),
        pytest.param(list[Struct], [Struct(TEA)], id="models in Structs in a list"),
        pytest.param(Typed, {"lines": {"a": TEA}}, id="models in a TypedDict"),
        pytest.param(Named, Named(TEA, 7), id="a model in a NamedTuple"),
        pytest.param(PositiveInt, 7, id="a constraint"),
        pytest.param(Annotated[PositiveInt, {"no": "hash"}], 7, id="a constraint beside a note"),
        pytest.param(Annotated[int, AfterValidator(even)], 8, id="a validator"),
    ],
)
def test_what_is_sent_arrives(hint: Any, value: Any) -> None:
    both = signature(hint)
    both.check()
    arrived = both.decode(both.encode({"value": value}))["value"]
    assert arrived == value
    assert type(arrived) is type(value)
    assert both.decode_result(write(value)) == value


def test_hints_may_be_written_as_texts() -> None:
    both = Signature("forwarded", forwarded)
    assert both.decode(both.encode({"value": [ORDER]})) == {"value": [ORDER]}
    assert both.decode_result(write(ORDER)) == ORDER


@pytest.mark.parametrize(
    ("hint", "sent", "words"),
    [
        pytest.param(Order, '{"id": 7}', ["Field required - at `$.value.at`"], id="a field that is missing"),
        pytest.param(
            Order,
            '{"id": "x", "at": "2030-01-02T00:00:00Z", "lines": [{"item": 7}]}',
            ["valid integer, unable to parse string as an integer - at `$.value.id`", "valid string - at `$.value.lines[0].item`"],
            id="two at once",
        ),
        pytest.param(Order, '{"id": 13, "at": 0}', ["nobody has that - at `$.value.id`"], id="a validator's own words"),
        pytest.param(list[Order], "[7]", ["- at `$.value[0]`"], id="an item of a list"),
        pytest.param(Order, "null", ["- at `$.value`"], id="nothing"),
        pytest.param(Shouting, '{"userId": 7, "colour": 1}', ["not permitted - at `$.value.colour`"], id="a field too many"),
        pytest.param(Payment, '{"kind": "gold"}', ["'card', 'cash' - at `$.value`"], id="an unknown kind"),
        pytest.param(Checked, '{"age": 0}', ["greater than 0 - at `$.value.age`"], id="pydantic's dataclass"),
        pytest.param(Plain, '{"line": {}}', ["Field required - at `$.value.line.item`"], id="within a dataclass"),
        pytest.param(Struct, '{"line": {}}', ["Field required - at `.item` - at `$.value.line`"], id="within a Struct"),
        pytest.param(Struct, '{"lines": 7}', ["missing required field `line` - at `$.value`"], id="the Struct itself"),
        pytest.param(PositiveInt, "-7", ["greater than 0 - at `$.value`"], id="a constraint"),
        pytest.param(NewType("Customer", PositiveInt), "-7", ["greater than 0 - at `$.value`"], id="a NewType of one"),
        pytest.param(TypeAliasType("Amount", PositiveInt), "-7", ["greater than 0 - at `$.value`"], id="a name for one"),
        pytest.param(Annotated[int, AfterValidator(even)], "7", ["is odd - at `$.value`"], id="a validator"),
        pytest.param(list[int], '["7"]', ["got `str` - at `$.value[0]`"], id="what is not pydantic's is read as ever"),
        pytest.param(list[Line], "[{},{},{},{},{},{},{}]", ["`$.value[4].item`; and 2 more"], id="many at once"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(hint: Any, sent: str, words: list[str]) -> None:
    with pytest.raises(Invalid) as refusal:
        signature(hint).decode(b'{"value": %s}' % sent.encode())
    for each in words:
        assert each in str(refusal.value)
    assert str(refusal.value).startswith("arguments do not fit keep(value: ")


def test_what_was_sent_is_not_repeated_in_the_refusal() -> None:
    """It is kept with the task, and written to logs."""
    with pytest.raises(Invalid) as refusal:
        signature(Order).decode(b'{"value": {"id": "swordfish", "at": 0}}')
    assert "swordfish" not in str(refusal.value)


def test_other_programs_may_use_either_name_of_a_field() -> None:
    read = signature(Shouting).decode
    assert read(b'{"value": {"userId": 7, "n": "x"}}') == read(b'{"value": {"user_id": 7, "note": "x"}}')


def test_a_model_is_sent_as_its_fields_whatever_the_hint() -> None:
    assert bytes(signature(Any).encode({"value": [TEA]})) == b'{"value":[{"item":"tea","price":"1.10"}]}'


class Login(BaseModel):
    user: str
    password: SecretStr


def test_a_secret_that_would_arrive_as_asterisks_is_refused() -> None:
    with pytest.raises(Invalid, match=r"argument value of keep .*a Login holds a secret"):
        signature(Login).encode({"value": Login(user="ada", password=SecretStr("swordfish"))})


def test_a_number_that_json_lacks_is_found_in_a_model() -> None:
    class Measured(BaseModel):
        degrees: float

    with pytest.raises(Invalid, match=r"argument value of keep .*no numbers but finite ones"):
        signature(Measured).encode({"value": [Measured(degrees=float("nan"))]})


class Odd(BaseModel):
    inside: Any

    @field_serializer("inside")
    def write_it(self, value: Any) -> Any:
        return {"object": object(), "error": 1 // 0 if value == "error" else 0}[value]


@pytest.mark.parametrize("value", ["object", "error", "no key"])
def test_a_model_that_cannot_be_written_is_refused_by_name(value: str) -> None:
    with pytest.raises(Invalid, match="argument value of keep cannot be written as JSON"):
        signature(Odd).encode({"value": Odd(inside=value)})


def test_a_result_that_does_not_fit_is_refused_by_its_place() -> None:
    with pytest.raises(Invalid, match=r"the result of keep is not what it declares: Field required - at `\$\[0\].at`"):
        signature(list[Order]).decode_result(b'[{"id": 7}]')


def test_a_pydantic_that_is_too_old_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(BaseModel):
        id: int

    monkeypatch.setattr(pydantic, "VERSION", "2.10.6")
    with pytest.raises(Invalid, match=r"pydantic 2\.10\.6 is too old .* install 2\.11 or newer"):
        signature(Own).check()
