"""`stoker worker`, once its command line has been read: see `cli/worker.py` for what may stand there."""

import asyncio
import faulthandler
import gc
import os
import sys
import threading
from typing import Any

import msgspec

from stoker.settings import LogFormat, WorkerSettings

EXITS_WITHIN = 5.0
"""Seconds that the interpreter may take for its end: threads that tasks have left behind are not waited for."""
COLLECT_AFTER = 20_000
"""Objects that may have come without going before the garbage collector looks; Python's own number is 700."""


class Command(msgspec.Struct, frozen=True):
    """What a worker's command line says. Where `settings` names no Redis or namespace, the application does."""

    settings: WorkerSettings
    processes: int = 1
    reload: bool = False
    check: bool = False
    log_format: LogFormat = "auto"
    log_level: str = "info"


def written(command: Command) -> bytes:
    """As text for another process."""
    return msgspec.json.encode(command, enc_hook=float)  # a Duration is one


def told(text: bytes) -> Command:
    """The same, read."""
    return msgspec.json.decode(text, type=Command, dec_hook=lambda kind, value: kind(value))


def serve(command: Command) -> None:
    """Do what it says, until told to leave. Raises StokerError for what cannot be done."""
    from stoker.telemetry.logs import configure

    settings = command.settings
    configure(command.log_format, command.log_level)
    if (command.processes > 1 or command.reload) and not command.check:
        from stoker.worker.group.group import run_group  # it loads no application, and needs nothing of what follows

        asyncio.run(run_group(command.processes, settings.drain_timeout, settings.host, settings.port, reload=command.reload))
        return
    from stoker.app.app import application_of
    from stoker.telemetry.tracing import Tracing
    from stoker.worker.process.process import work
    from stoker.worker.process.shutdown import end_now, leave_within
    from stoker.worker.system.loading import load_app

    application = load_app(settings.app)
    if command.check:
        print("\n".join(sorted(application.tasks)))
        return
    application.redis_url = settings.redis_url or application.redis_url
    application.namespace = settings.namespace or application.namespace
    application_of(application).tracing = Tracing.from_environment(f"stoker-worker-{settings.queue}")
    settings = msgspec.structs.replace(settings, redis_url=application.redis_url, namespace=application.namespace)
    _collect_seldom()
    faulthandler.enable()  # where a task brings the interpreter down, the log says in which line
    home, environment, code = os.getcwd(), dict(os.environ), 1
    try:
        again, code = _run(work(application, settings)), 0
    finally:
        leave_within(EXITS_WITHIN, code)
    if again:
        # In place, under the same process id: neither Kubernetes nor anyone else sees a container or a process that ended.
        # As it was started, whatever tasks have made of it.
        os.chdir(home)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
    if any(thread.name.startswith("stoker-task") and thread.is_alive() for thread in threading.enumerate()):
        end_now(0)  # a thread that was given up cannot be stopped, and Python would wait for it for ever


def _collect_seldom() -> None:
    """This process is the worker's own. Hundreds of tasks at a time would else set the garbage collector off every
    few round trips, to look through them and all modules in vain: a fifth of the CPU of short tasks. What is here now stays.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _run(work: Any) -> bool:
    try:
        import uvloop
    except ImportError:
        return bool(asyncio.run(work))
    return bool(uvloop.run(work))
