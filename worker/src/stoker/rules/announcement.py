"""Announcements: which tasks the workers of a template know. They are stored once per template, not with every heartbeat.

A template stands for workers that know the same tasks: the pod template's hash in Kubernetes, a run of `stoker up`, elsewhere a
digest of the names. Names and versions decide which tasks are unclaimed; the description (schemas of parameters, hooks) is for
people and pages, and stored apart from them.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

MAX_NAMES = 200
"""A template with more tasks does not list them: its workers may know any name."""
FORMAT = 1
"""Version of the stored description. Readers skip others."""
MOST_BYTES = 64 * 1024
"""Of the stored schemas of a template."""
LONGEST_NAME = 255
MOST_HOOKS, LONGEST_HOOK = 32, 64
MOST_TEMPLATES = 200
"""That are read. 50 are kept, and those of living workers."""
_HIGHEST_VERSION = 9_999_999_999
_MARGIN = 4 * 1024
"""Bytes of a stored description besides its schemas."""
_TEMPLATE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class Announcement(msgspec.Struct, frozen=True):
    """The tasks that a template's workers know: name -> version. None: any.

    `hooks`: name ("": any other) -> the step (JSON) that handles its death.
    """

    template: str
    versions: dict[str, int] | None
    hooks: dict[str, str] = {}


class Description(NamedTuple):
    """What a template's workers say about their tasks, as it is stored."""

    digest: str
    body: bytes


class AnnouncedTemplate(msgspec.Struct, frozen=True):
    """What the workers of a template have announced.

    `versions`: task name -> version; None: over 200, so they may know any. `schemas`: task name -> JSON Schema of its arguments, by
    name; tasks whose type hints allow none have none, nor have `left_out` tasks, for which there was no room. `hooks`: what the
    application does at moments such as a task's death, each "on_dead NAME: HANDLER".
    """

    template: str
    versions: dict[str, int] | None = None
    schemas: dict[str, dict[str, Any]] = {}
    left_out: int = 0
    hooks: tuple[str, ...] = ()


class _Stored(msgspec.Struct):
    v: int
    schemas: dict[str, msgspec.Raw]
    left_out: int = 0
    hooks: list[str] = []


_names = msgspec.json.Decoder(dict[str, int])
_stored = msgspec.json.Decoder(_Stored)


def is_template(text: str) -> bool:
    """Whether this may name a template: up to 64 letters, digits, dots, dashes and underscores."""
    return _TEMPLATE.fullmatch(text) is not None


def announcement_of(versions: Mapping[str, int], template: str = "", hooks: Mapping[str, str] | None = None) -> Announcement:
    """The announcement of workers that know these tasks. Without a template: a digest of the sorted names and versions."""
    if not template:
        template = hashlib.sha256(msgspec.json.encode(sorted(versions.items()))).hexdigest()[:16]
    return Announcement(template, dict(versions) if len(versions) <= MAX_NAMES else None, dict(hooks or {}))


def hook_texts(hooks: Mapping[str, str]) -> list[str]:
    """What a description says of these hooks."""
    return [f"on_dead {name or '*'}: {msgspec.json.decode(step)['message']['task']}" for name, step in hooks.items()]


def is_hook(value: bytes) -> bool:
    """Whether this is what a template has announced for the death of a task."""
    template, _, step = value.partition(b" ")
    try:
        return is_template(template.decode()) and isinstance(msgspec.json.decode(step), dict)
    except _UNREADABLE:
        return False


def describe(schemas: Mapping[str, bytes], hooks: Sequence[str] = ()) -> Description:
    """The description of tasks with these schemas (JSON). The smallest are kept, up to 64 KiB with their names."""
    kept: dict[str, msgspec.Raw] = {}
    room = MOST_BYTES
    for name, schema in sorted(schemas.items(), key=lambda item: (len(item[1]), item[0])):
        room -= len(schema) + len(msgspec.json.encode(name)) + 2
        if room < 0:
            break
        kept[name] = msgspec.Raw(schema)
    body = msgspec.json.encode(_Stored(FORMAT, kept, len(schemas) - len(kept), list(hooks)))
    return Description(hashlib.sha256(body).hexdigest()[:16], body)


def announced_templates(flat: Sequence[bytes]) -> list[AnnouncedTemplate]:
    """What is stored, of a flat list of template, names and description. Nothing is trusted: what cannot be read is left out."""
    found = []
    for template, names, description in zip(flat[::3], flat[1::3], flat[2::3], strict=False):
        if is_template(name := template.decode(errors="replace")):
            found.append(_announced(name, _versions(names), description))
    return found


def is_names(value: bytes) -> bool:
    """Whether these are the names of a template."""
    return not value or _versions(value) is not None


def is_description(value: bytes) -> bool:
    """Whether this is a description of this version or a newer one."""
    try:
        return (
            msgspec.json.decode(value.partition(b" ")[2], type=dict[str, Any]).get("v", 0) > FORMAT or _stored_of(value) is not None
        )
    except (*_UNREADABLE, TypeError):
        return False


def _announced(template: str, versions: dict[str, int] | None, description: bytes) -> AnnouncedTemplate:
    stored = _stored_of(description)
    if stored is None:
        return AnnouncedTemplate(template, versions)
    schemas = {name: schema for name, raw in stored.schemas.items() if len(name) <= LONGEST_NAME and (schema := _schema(raw))}
    hooks = tuple(hook[:LONGEST_HOOK] for hook in stored.hooks[:MOST_HOOKS])
    return AnnouncedTemplate(template, versions, schemas, max(0, min(stored.left_out, MOST_BYTES)), hooks)


def _versions(names: bytes) -> dict[str, int] | None:
    """None where the workers may know any, as for Lua: too many names, or unreadable ones."""
    try:
        versions = _names.decode(names)
    except _UNREADABLE:
        return None
    fits = len(versions) <= MAX_NAMES and all(
        len(name) <= LONGEST_NAME and 0 <= version <= _HIGHEST_VERSION for name, version in versions.items()
    )
    return versions if fits else None


def _stored_of(description: bytes) -> _Stored | None:
    _, _, body = description.partition(b" ")
    if len(body) > MOST_BYTES + _MARGIN:
        return None
    try:
        stored = _stored.decode(body)
    except _UNREADABLE:
        return None
    return stored if stored.v == FORMAT else None


def _schema(raw: msgspec.Raw) -> dict[str, Any] | None:
    """A schema; None for what is no object."""
    try:
        schema = msgspec.json.decode(raw)
    except _UNREADABLE:
        return None
    return schema if isinstance(schema, dict) else None
