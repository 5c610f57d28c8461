"""Announcements: which tasks the workers of a template know. They are stored once per template, not with every heartbeat.

A template stands for workers that know the same tasks: the pod template's hash in Kubernetes, a run of `stoker up`, elsewhere a
digest of the names.
"""

import hashlib
import re
from collections.abc import Mapping

import msgspec

MAX_NAMES = 200
"""A template with more tasks does not list them: its workers may know any name."""
_TEMPLATE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Announcement(msgspec.Struct, frozen=True):
    """The tasks that a template's workers know: name -> version. None: any."""

    template: str
    versions: dict[str, int] | None


def is_template(text: str) -> bool:
    """Whether this may name a template: up to 64 letters, digits, dots, dashes and underscores."""
    return _TEMPLATE.fullmatch(text) is not None


def announcement_of(versions: Mapping[str, int], template: str = "") -> Announcement:
    """The announcement of workers that know these tasks. Without a template: a digest of the sorted names and versions."""
    if not template:
        template = hashlib.sha256(msgspec.json.encode(sorted(versions.items()))).hexdigest()[:16]
    return Announcement(template, dict(versions) if len(versions) <= MAX_NAMES else None)
