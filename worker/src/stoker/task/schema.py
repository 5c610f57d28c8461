"""JSON Schema (2020-12) of a task's arguments, for pages and forms: workers announce it (rules/announcement.py)."""

from collections.abc import Mapping
from typing import Any

import msgspec

from stoker.task.values import is_pydantics, pydantic_schema

DEFINITIONS = "#/$defs/{name}"


def arguments_schema(hints: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    """The schema of arguments by name. Values of defaults are not in it: they may be secrets.

    Raises whatever msgspec, pydantic or the application raises for a type that has none.
    """
    plain = {name: hint for name, hint in hints.items() if not is_pydantics(hint)}
    found, definitions = msgspec.json.schema_components(plain.values(), schema_hook=_of_class, ref_template=DEFINITIONS)
    properties = dict(zip(plain, found, strict=True))
    for name, hint in hints.items():
        if name not in plain:
            properties[name] = pydantic_schema(hint, f"#/properties/{name}/$defs/{{model}}")
    schema: dict[str, Any] = {"type": "object", "properties": {name: properties[name] for name in hints}, "required": required}
    return {**schema, "additionalProperties": False} | ({"$defs": definitions} if definitions else {})


def _of_class(kind: type) -> dict[str, Any]:
    """msgspec's `schema_hook`, for a class that it does not know: any JSON."""
    return {"title": kind.__name__}
