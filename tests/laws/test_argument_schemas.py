"""The JSON Schema of a task's arguments."""

import json
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, Field

from stoker.task.signature import Signature


class Line(msgspec.Struct):
    item: str
    count: int = 1


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    name: str


class Order(BaseModel):
    items: list[Item]


def plain(
    to: str, lines: list[Line], kind: Literal["a", "b"] = "a", colour: Colour = Colour.RED, secret: str = "hunter2"
) -> None: ...
def with_models(order: Order, amount: Annotated[int, Field(gt=3)] = 5) -> None: ...
def nothing() -> None: ...
def unresolved(value: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def schema(function: Any) -> Any:
    found = Signature("t", function).schema()
    return None if found is None else json.loads(found)


def test_plain_types() -> None:
    found = schema(plain)
    assert found["required"] == ["to", "lines"]
    assert list(found["properties"]) == ["to", "lines", "kind", "colour", "secret"]
    assert found["properties"]["to"] == {"type": "string"}
    assert found["properties"]["lines"]["items"] == {"$ref": "#/$defs/Line"}
    assert found["$defs"]["Line"]["required"] == ["item"]
    assert found["additionalProperties"] is False
    assert "hunter2" not in json.dumps(found), "defaults may be secrets"


def test_types_of_pydantic_refer_to_their_own_definitions() -> None:
    properties = schema(with_models)["properties"]
    assert properties["amount"] == {"exclusiveMinimum": 3, "type": "integer"}
    assert properties["order"]["properties"]["items"]["items"] == {"$ref": "#/properties/order/$defs/Item"}
    assert properties["order"]["$defs"]["Item"]["required"] == ["name"]


def test_a_task_without_parameters_takes_an_empty_object() -> None:
    assert schema(nothing) == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def test_hints_that_allow_none() -> None:
    assert schema(unresolved) is None
