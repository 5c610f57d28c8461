"""Quantities of Kubernetes (`500m`, `1Gi`, `0.5`), which the API server stores in another spelling than they were sent in. Pure."""

from decimal import Decimal
from typing import Any

from kubernetes.utils import quantity as _quantity

quantity: Any = _quantity  # untyped
QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})
"""Fields whose value is a quantity, or holds quantities by name."""


def same_quantity(one: object, other: object) -> bool:
    """Whether both are the same number. What is no quantity is compared as it is."""
    left, right = _number(one), _number(other)
    return one == other if left is None or right is None else left == right


def _number(value: object) -> Decimal | None:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        return Decimal(quantity.parse_quantity(str(value)))
    except (ValueError, ArithmeticError):
        return None
