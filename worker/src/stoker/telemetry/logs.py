"""Logging: one JSON object per line, or coloured lines at a terminal."""

import json
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from textwrap import indent
from typing import Any, Literal, Protocol, TextIO

import msgspec
from opentelemetry import trace

from stoker.rules.printable import printable

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
LINES = "\n\t"
"""Kept in tracebacks, which have several lines."""
INDENT = "    "
"""Before each of them."""
_COLOURS = {logging.DEBUG: "2", logging.INFO: "36", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}


class LoggedTask(Protocol):
    """The fields of a task that log lines within its run carry."""

    @property
    def id(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def queue(self) -> str: ...


class LoggedRun(Protocol):
    """The field of a run that log lines within it carry."""

    @property
    def attempt(self) -> int: ...


running: ContextVar[tuple[LoggedTask, LoggedRun] | None] = ContextVar("stoker.running", default=None)
"""The run that this code belongs to, also in its threads; None outside of a run."""


class TaskIds(logging.Filter):
    """Adds the task's ids to records within a run, and drops none. For the handlers of any logging configuration."""

    def filter(self, record: logging.LogRecord) -> bool:
        if run := running.get():
            record.__dict__.update(task_fields(*run))
        return True


def task_fields(message: LoggedTask, delivery: LoggedRun) -> dict[str, object]:
    """The fields that log lines of a run carry."""
    return {"task_id": message.id, "task": message.task, "queue": message.queue, "attempt": delivery.attempt}


class _Formatter(logging.Formatter):
    def _exception(self, record: logging.LogRecord) -> str:
        """The traceback: of an exception, or as text where it was raised in another process or is long past."""
        if record.exc_info and record.exc_info[0]:
            return self.formatException(record.exc_info)
        return record.exc_text or ""


class JsonFormatter(_Formatter):
    """Time, level, logger, message, the record's extra fields, `exception`, and the ids of the current trace."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry = extra_fields(record) | entry
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            entry |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        if exception := self._exception(record):
            entry["exception"] = exception
        try:
            return msgspec.json.encode(entry, enc_hook=str).decode()
        except (ValueError, TypeError, RecursionError):  # text that is no Unicode, odd keys: keep the line
            return json.dumps({key: str(value) for key, value in entry.items()})


class TextFormatter(_Formatter):
    """A short coloured line: time, level, message, extra fields. The lines of a traceback are indented: none looks like another
    record.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        colour = _COLOURS.get(record.levelno, "0")
        extra = "".join(f" \x1b[2m{printable(key)}=\x1b[0m{printable(str(value))}" for key, value in extra_fields(record).items())
        level = f"\x1b[{colour}m{record.levelname.lower():7}\x1b[0m"
        line = f"\x1b[2m{time}\x1b[0m {level} {printable(record.getMessage())}{extra}"
        exception = self._exception(record).rstrip()
        return f"{line}\n{indent(printable(exception, LINES), INDENT, lambda _: True)}" if exception else line


class TaskLog(logging.LoggerAdapter[logging.Logger]):
    """Adds a task's ids to the caller's `extra`, which the standard adapter would drop.

    `keep` is called with every line from INFO on, whatever the level of the loggers: the task's own log does not depend on it.
    """

    def __init__(self, logger: logging.Logger, extra: Mapping[str, object], keep: Callable[[int, str], None] | None = None) -> None:
        super().__init__(logger, extra)
        self._keep = keep

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self._keep and level >= logging.INFO:
            try:
                self._keep(level, str(msg) % args if args else str(msg))
            except (TypeError, ValueError):  # logging reports the mistake
                self._keep(level, str(msg))
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # the line that logs, not this one
        super().log(level, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


def extra_fields(record: logging.LogRecord) -> dict[str, object]:
    """The fields that the caller gave as `extra`."""
    return {key: value for key, value in record.__dict__.items() if key not in _PLAIN}


def configure(form: Literal["auto", "json", "text"], level: str, stream: TextIO = sys.stderr) -> logging.Handler:
    """Send all logs to `stream`: as text when it is a terminal or `form` says so, else as JSON. Returns the handler that does."""
    text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    handler.addFilter(TaskIds())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    return handler
