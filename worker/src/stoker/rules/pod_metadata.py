"""Labels and annotations of the worker pods, as a TaskQueue sets them: their syntax, and the keys that are the operator's."""

import re
from collections.abc import Mapping

MOST = 32
"""Labels, and annotations, of one TaskQueue."""
MAX_ANNOTATION = 4096
"""Characters of an annotation's value."""

_KEY = re.compile(r"([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?")
_OWN_PREFIX = "stoker.dev/"
_OWN = frozenset(
    {
        *(f"app.kubernetes.io/{name}" for name in ("name", "instance", "managed-by")),
        "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes",
    }
)


def is_own(key: str) -> bool:
    """Whether the operator sets this label or annotation itself."""
    return key.startswith(_OWN_PREFIX) or key in _OWN


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises ValueError that names the label."""
    _check_keys("labels", labels)
    for key, value in labels.items():
        if not _LABEL.fullmatch(value):
            raise ValueError(f"labels: the value of {key} must be at most 63 letters, digits, '-', '_' and '.', such as payments")


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Raises ValueError that names the annotation."""
    _check_keys("annotations", annotations)
    for key, value in annotations.items():
        if len(value) > MAX_ANNOTATION:
            raise ValueError(f"annotations: the value of {key} is longer than {MAX_ANNOTATION} characters")


def _check_keys(field: str, values: Mapping[str, str]) -> None:
    if len(values) > MOST:
        raise ValueError(f"{field} has more than {MOST} keys")
    for key in values:
        if is_own(key):
            raise ValueError(f"{field}: {key} is set by the operator: remove it")
        if not _KEY.fullmatch(key):
            raise ValueError(f"{field}: {key!r} must be a name, or prefix/name, such as example.org/team")
