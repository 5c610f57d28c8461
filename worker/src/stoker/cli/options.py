"""Shared options: one name, one environment variable and one help text per flag. `session.py` adds the ones common to all."""

from datetime import datetime
from typing import Annotated, Literal

import typer

from stoker.errors import Invalid
from stoker.rules.message import check_namespace
from stoker.rules.units import parse_duration, parse_size
from stoker.settings import PREFIX, LogFormat

LogLevel = Literal["debug", "info", "warning", "error"]


def variable(name: str) -> str:
    """The environment variable of a setting: variable("REDIS_URL") is STOKER_REDIS_URL."""
    return PREFIX + name


def duration(text: str) -> float:
    """Seconds of "90", "1.5", "30s" or "1h30m". Parses options that take a duration."""
    try:
        return float(parse_duration(text if text[-1:].isalpha() else text + "s"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a duration: write it like 30s, 10m, 1h30m, or a number of seconds") from None


def size(text: str | int) -> int:
    """Bytes of "512MiB". Parses options that take a size; defaults are numbers already."""
    if isinstance(text, int):
        return text
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def moment(text: str) -> datetime:
    """An RFC 3339 time with its zone. Parses options that take a point in time."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise typer.BadParameter(f"{text!r} is not a time with its zone: write it like 2030-01-31T09:00:00Z")
    return when


def namespace(text: str) -> str:
    """The namespace, or "" for none. Checks options that take one."""
    try:
        return check_namespace(text) if text else text
    except Invalid as error:
        raise typer.BadParameter(str(error)) from None


RedisUrl = Annotated[
    str, typer.Option("--redis-url", envvar=variable("REDIS_URL"), metavar="URL", help="Redis URL.", rich_help_panel="Redis")
]
Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        envvar=variable("NAMESPACE"),
        metavar="NAME",
        help="Namespace of the queues; on a cluster the TaskQueue's.",
        callback=namespace,
        rich_help_panel="Redis",
    ),
]
QueueName = Annotated[str, typer.Option("--queue", "-q", envvar=variable("QUEUE"), metavar="QUEUE", help="Queue.")]
MaybeQueueName = Annotated[
    str | None,
    typer.Option("--queue", "-q", envvar=variable("QUEUE"), metavar="QUEUE", help="Queue; default: search all."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        "--log-format", envvar=variable("LOG_FORMAT"), help="auto: text on a terminal, else JSON.", rich_help_panel="Logs"
    ),
]
LogLevelOption = Annotated[LogLevel, typer.Option("--log-level", envvar=variable("LOG_LEVEL"), rich_help_panel="Logs")]
