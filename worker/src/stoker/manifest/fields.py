"""The types of fields that the parts of a TaskQueue share, and how their text is read."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from stoker.rules.message import MAX_PRIORITY, MIN_PRIORITY
from stoker.rules.units import Duration, parse_duration

_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
Count = Annotated[int, Meta(ge=0, le=10_000_000)]
Replicas = Annotated[int, Meta(ge=0, le=1000)]
Pace = Annotated[int, Meta(ge=1, le=1_000_000)]
Priority = Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY)]
Slots = Annotated[int, Meta(ge=1, le=1000)]


class Factor(float):
    """A number written as a string: Kubernetes APIs avoid floats."""


class Spec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Base of every part: camelCase in the manifest, frozen, unknown fields forbidden."""


def is_object_name(name: object) -> bool:
    """Whether this is a DNS-1123 subdomain, as the names of Secrets and most other objects of Kubernetes are."""
    return isinstance(name, str) and len(name) <= 253 and _OBJECT_NAME.fullmatch(name) is not None


def check_secret_name(field: str, name: object) -> None:
    """Raises ValueError naming the field."""
    # The operator reads the Secret with its own rights: a name such as ../../finance/secrets/stripe must not become a path.
    if not is_object_name(name):
        raise ValueError(f"{field} is not the name of a Secret: use lower-case letters, digits, '-' and '.'")


def mapping(field: str, value: object) -> Mapping[str, Any]:
    """The value, empty for None. Raises ValueError naming the field if it is no mapping."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{field} must be an object")
    return value


def decode(wanted: type, value: object) -> object:
    """The `dec_hook` of msgspec for Duration and Factor. Raises ValueError for a text that is neither."""
    if wanted is Duration and isinstance(value, str):
        return parse_duration(value)
    if wanted is Factor and isinstance(value, str):
        factor = Factor(value)
        if not 1 <= factor <= 100:
            raise ValueError(f"{value!r} is outside 1..100")
        return factor
    raise ValueError(f"expected a string like {'30s' if wanted is Duration else '2'!r}, got {value!r}")
