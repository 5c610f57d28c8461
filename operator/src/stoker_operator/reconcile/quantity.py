"""Quantities of Kubernetes (`500m`, `1Gi`, `0.5`), which the API server stores in another spelling than they were sent in. Pure.

The grammar is that of k8s.io/apimachinery/pkg/api/resource: a decimal number with an exponent, or with a decimal or binary suffix.
"""

import re
from decimal import Decimal

QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})
"""Fields whose value is a quantity, or holds quantities by name."""
_FORM = re.compile(r"([+-]?[0-9]{0,30}\.?[0-9]{0,30})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]{1,3}))?")
_DECIMAL = dict(zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True))


def same_quantity(one: object, other: object) -> bool:
    """Whether both are the same number. What is no quantity is compared as it is."""
    left, right = _number(one), _number(other)
    return one == other if left is None or right is None else left == right


def _number(value: object) -> Decimal | None:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    form = _FORM.fullmatch(str(value))
    if form is None or not any(character.isdigit() for character in form[1]):
        return None
    number, suffix, exponent = Decimal(form[1]), form[2], form[3]
    if suffix and suffix.endswith("i"):
        return number * Decimal(1024) ** ("KMGTPE".index(suffix[0]) + 1)
    return number.scaleb(_DECIMAL[suffix] if suffix else int(exponent or 0))
