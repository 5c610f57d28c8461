"""`stoker worker` after its command line is parsed: one process or a group. `cli/worker.py` declares the flags."""

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from stoker.settings import LogFormat, WorkerSettings
from stoker.worker.system.aio import left_behind, run_to_end
from stoker.worker.system.garbage import collector  # before the application is imported
from stoker.worker.system.secrecy import RUNS_PROGRAMS, URL, hide

EXIT_TIMEOUT = 5.0
"""Seconds that the interpreter may take to exit: threads that tasks have left behind are not waited for."""


class Command(msgspec.Struct, frozen=True):
    """A parsed command line. Where `settings` has no Redis URL or namespace, the application's are used."""

    settings: WorkerSettings
    processes: int = 1
    reload: bool = False
    check: bool = False
    log_format: LogFormat = "auto"
    log_level: str = "info"


def dumps(command: Command) -> bytes:
    """Encode for another process."""
    return msgspec.json.encode(command, enc_hook=float)  # a Duration is one


def loads(text: bytes) -> Command:
    """Decode what `dumps` wrote."""
    return msgspec.json.decode(text, type=Command, dec_hook=lambda kind, value: kind(value))


def serve(command: Command, *, replaced: bool = False) -> None:
    """Run the worker, or the group, until it has drained. Raises StokerError when it cannot start.

    `replaced`: another process is started in its place by its parent, which has handed it the Redis URL.
    """
    from stoker.telemetry.logs import configure
    from stoker.telemetry.own_lines import OwnLines

    settings = command.settings
    handler = configure(command.log_format, command.log_level)
    if (command.processes > 1 or command.reload) and not command.check:
        from stoker.worker.group.group import run_group  # loads no application

        url = _hidden_url(settings)
        group = run_group(
            command.processes, settings.drain_timeout, settings.host, settings.port, reload=command.reload, secret_url=url
        )
        asyncio.run(group)
        return
    from stoker.app.app import application_of
    from stoker.telemetry.tracing import Tracing
    from stoker.worker.process.exit import exit_now, exit_within
    from stoker.worker.process.process import process_name, work
    from stoker.worker.process.status_page import LoadingPage
    from stoker.worker.system.loading import load_app

    if command.check:
        print("\n".join(sorted(load_app(settings.app).tasks)))
        return
    faulthandler.enable()  # a crash of the interpreter shows the line of Python
    own_lines = OwnLines(handler, logging.getLogger().level)
    with LoadingPage(process_name(settings), settings) as status:
        application = load_app(settings.app)
        own_lines.hold()
        application.redis_url = settings.redis_url or application.redis_url
        application.namespace = settings.namespace or application.namespace
        application_of(application).tracing = Tracing.from_environment("-".join(["stoker-worker", *filter(None, [settings.queue])]))
        settings = msgspec.structs.replace(settings, redis_url=application.redis_url, namespace=application.namespace)
        collector.start()
        home, environment = os.getcwd(), dict(os.environ)
        again = _run(work(application, settings, status, own_lines), partial(exit_within, EXIT_TIMEOUT))
    if again and not replaced:  # an exec would show the environment, and the URL in it, until it is hidden again
        # In place, under the same process id, so that Kubernetes sees no container end. With the directory and environment
        # that it was started with, whatever tasks have changed.
        os.chdir(home)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
    if left_behind or any(thread.name.startswith("stoker-task") and thread.is_alive() for thread in threading.enumerate()):
        exit_now(0)  # they cannot be stopped, and Python would wait for them


def _hidden_url(settings: WorkerSettings) -> str:
    """The Redis URL, taken out of the environment, for workers that run programs; empty for others."""
    if settings.app.partition(":")[0] != RUNS_PROGRAMS:
        return ""
    hide()
    return os.environ.pop(URL, "")


def _run(work: Any, exit_soon: Callable[[int], None]) -> bool:
    """What `work` returns. `exit_soon` is called with the exit code before the loop is closed: that waits for its threads."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        code = 1
        try:
            again, code = bool(run_to_end(runner, work)), 0
        finally:
            exit_soon(code)
    return again
