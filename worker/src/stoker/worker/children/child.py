"""Main module of a child process: imports the application and runs plain functions, one at a time, until its worker is gone.

Started by `pool.py` as `python -m stoker.worker.children.child <socket> <pid of the worker>`.
"""

import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
import time
from functools import partial
from typing import Any

from msgspec.structs import replace

from stoker.app.app import application_of
from stoker.app.application import Application
from stoker.errors import Invalid
from stoker.rules.message import decode
from stoker.rules.settle import Failure, Fatal, Outcome, Returned, Unknown
from stoker.task.context import run_of
from stoker.telemetry.logs import TaskIds, running
from stoker.telemetry.own_lines import OwnLines
from stoker.telemetry.tracing import Tracing, attached
from stoker.worker.children.child_progress import ChildProgress
from stoker.worker.children.protocol import (
    LENGTH,
    Begin,
    Broken,
    FromChild,
    LogForwarder,
    Ready,
    RunEnded,
    RunTask,
    frame,
    to_child,
)
from stoker.worker.run.deadline import call_softly
from stoker.worker.run.dependencies import context_of, run_here_with
from stoker.worker.run.outcome import call_plain, is_taken, raised, returned
from stoker.worker.run.progress import current_progress
from stoker.worker.system.aio import handle_here_alone
from stoker.worker.system.garbage import collector
from stoker.worker.system.loading import load_app
from stoker.worker.system.managed_process import signal_with_parent
from stoker.worker.system.memory import resident

ORPHAN_CHECK = 1.0
GARBAGE = 1 << 20
"""Bytes by which memory may have grown after a run before garbage is collected: nothing else runs here meanwhile."""
OOM_SCORE_ADJ = "500"
"""When memory runs out, the kernel kills this process before the worker."""


class Channel:
    """The socket to the worker. Any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._incoming = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, body: FromChild) -> None:
        """Send a message."""
        data = frame(body)
        with self._lock:
            self._connection.sendall(data)

    def receive(self) -> Any:
        """The worker's next message; None when it is gone."""
        length = self._incoming.read(LENGTH.size)
        body = self._incoming.read(LENGTH.unpack(length)[0]) if len(length) == LENGTH.size else b""
        return to_child.decode(body) if body else None


def main() -> None:
    """Serve the worker that started this process."""
    descriptor, worker = map(int, sys.argv[1:3])
    _exit_with(worker)
    faulthandler.enable()
    _ignore_signals()
    channel = Channel(socket.socket(fileno=descriptor))
    begin = channel.receive()
    if not isinstance(begin, Begin):
        return
    sys.path[:] = begin.path
    forwarder = LogForwarder(channel.send)
    forwarder.addFilter(TaskIds())
    logging.basicConfig(level=begin.level, handlers=[forwarder], force=True)
    lines = OwnLines(forwarder, begin.own_level)
    try:
        app = application_of(load_app(begin.app))
        lines.hold()
        app.tracing = Tracing.from_environment("stoker-worker")
    except Invalid as error:
        channel.send(Broken(str(error)))
        return
    collector.start(growth=GARBAGE)
    channel.send(Ready())
    progress = ChildProgress(channel.send)
    current_progress.set(progress)
    while isinstance(request := channel.receive(), RunTask):
        outcome = run(app, request)
        progress.flush()
        _ignore_signals()
        collector.look()
        lines.hold()
        channel.send(RunEnded(outcome, resident()))


def run(app: Application, request: RunTask) -> Outcome:
    """Run one delivery, and return its outcome."""
    delivery = request.delivery
    message = decode(delivery.envelope)
    task = app.declarations.get(message.task)
    if task is None:
        return Unknown(message.task, message.version)
    try:
        arguments = task.decode_arguments(bytes(message.payload))
    except Invalid as error:
        return Fatal(Failure("InvalidArguments", str(error)))
    running.set((message, delivery))
    context = context_of(delivery, message, request.limit, request.max_retries)
    plan, values = task.plan(app.dependency_overrides), [context, None]

    def call() -> Any:
        return task.function(**arguments, **(plan.given(values) if plan else {}))

    try:
        with attached(request.trace):
            function = partial(run_here_with, plan.inner, values, call) if plan else call
            value = call_plain(partial(call_softly, function, request.soft) if request.soft else function)
    except BaseException as error:  # sys.exit() too: the process runs more tasks
        return raised(error, task.policy.retry)
    outcome = returned(task.name, value, taken=is_taken(task, message))
    children = run_of(context).children
    if children and isinstance(outcome, Returned):
        return replace(outcome, children=children.written())
    return outcome


def _ignore_signals() -> None:
    """Ignore SIGTERM and SIGINT: the worker decides when its children stop. Repeated after each task, which may have set handlers
    or an alarm. A handler and not SIG_IGN, which processes that a task starts would inherit; forked ones do not ignore them either.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    handle_here_alone(signal.SIGTERM, _ignored, signal.SIG_DFL)
    handle_here_alone(signal.SIGINT, _ignored, signal.default_int_handler)


def _ignored(*_: object) -> None:
    """A signal that is not for this process."""


def _exit_with(worker: int) -> None:
    """Do not outlive the worker, whatever ends it."""
    if sys.platform == "linux":
        signal_with_parent(signal.SIGKILL)
        try:
            with open("/proc/self/oom_score_adj", "w") as score:
                score.write(OOM_SCORE_ADJ)
        except OSError:
            pass  # optional
    else:
        threading.Thread(target=_exit_when_orphaned, args=[worker], daemon=True).start()
    if os.getppid() != worker:  # it was gone before
        os._exit(1)


def _exit_when_orphaned(worker: int) -> None:
    while os.getppid() == worker:
        time.sleep(ORPHAN_CHECK)
    os._exit(1)


if __name__ == "__main__":
    main()
