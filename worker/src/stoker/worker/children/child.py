"""A child of a worker: it imports the application and runs plain functions, one after the other, until its worker is gone.

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
from stoker.telemetry.tracing import Tracing, attached
from stoker.worker.children.progress import Messenger
from stoker.worker.children.protocol import LENGTH, Begin, Broken, Ended, FromChild, Ready, Run, Teller, frame, to_child
from stoker.worker.run.deadline import interrupted
from stoker.worker.run.dependencies import context_of, run_here_with
from stoker.worker.run.outcome import called, raised, returned
from stoker.worker.run.progress import telling
from stoker.worker.system.loading import load_app
from stoker.worker.system.managed_process import leave_with_parent
from stoker.worker.system.memory import resident

ORPHAN_CHECK = 1.0
FIRST_TO_GO = "500"
"""Added to the kernel's count against this process: where memory ends, it is to die, and the worker to live."""


class Channel:
    """The socket to the worker. Any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._incoming = connection.makefile("rb")
        self._one_at_a_time = threading.Lock()

    def send(self, body: FromChild) -> None:
        """Tell the worker."""
        data = frame(body)
        with self._one_at_a_time:
            self._connection.sendall(data)

    def receive(self) -> Any:
        """What the worker wants next; None when it is gone."""
        length = self._incoming.read(LENGTH.size)
        body = self._incoming.read(LENGTH.unpack(length)[0]) if len(length) == LENGTH.size else b""
        return to_child.decode(body) if body else None


def main() -> None:
    """Serve the worker that started this process."""
    descriptor, worker = map(int, sys.argv[1:3])
    _die_with(worker)
    faulthandler.enable()
    _hear_no_signals()
    channel = Channel(socket.socket(fileno=descriptor))
    begin = channel.receive()
    if not isinstance(begin, Begin):
        return
    sys.path[:] = begin.path
    teller = Teller(channel.send)
    teller.addFilter(TaskIds())
    logging.basicConfig(level=begin.level, handlers=[teller], force=True)
    try:
        app = application_of(load_app(begin.app))
        app.tracing = Tracing.from_environment("stoker-worker")
    except Invalid as error:
        channel.send(Broken(str(error)))
        return
    channel.send(Ready())
    messenger = Messenger(channel.send)
    telling.set(messenger)
    while isinstance(request := channel.receive(), Run):
        outcome = run(app, request)
        messenger.last_words()
        _hear_no_signals()
        channel.send(Ended(outcome, resident()))


def run(app: Application, request: Run) -> Outcome:
    """One run, as an outcome."""
    delivery = request.delivery
    message = decode(delivery.envelope)
    task = app.declarations.get(message.task)
    if task is None:
        return Unknown(Failure("UnknownTask", f"no task is named {message.task!r} in the child process"))
    try:
        arguments = task.decode_arguments(bytes(message.payload))
    except Invalid as error:
        return Fatal(Failure("InvalidArguments", str(error)))
    running.set((message, delivery))
    context = context_of(delivery, message, request.limit)
    plan, values = task.plan(app.dependency_overrides), [context, None]

    def call() -> Any:
        return task.function(**arguments, **(plan.given(values) if plan else {}))

    try:
        with attached(request.trace):
            function = partial(run_here_with, plan.inner, values, call) if plan else call
            value = called(partial(interrupted, function, request.soft) if request.soft else function)
    except BaseException as error:  # sys.exit() too: the next task wants this process
        return raised(error, task.policy.retry)
    outcome = returned(task.name, value)
    children = run_of(context).children
    if children and isinstance(outcome, Returned):
        return replace(outcome, children=children.written())
    return outcome


def _hear_no_signals() -> None:
    """Whoever ends a whole group of processes means the worker, which decides for us. Said again after each task, which may
    have set handlers or an alarm of its own. A handler and not SIG_IGN, since what a task starts would inherit that.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def _die_with(worker: int) -> None:
    """Not to outlive the worker, however it ends."""
    if sys.platform == "linux":
        leave_with_parent(signal.SIGKILL)
        try:
            with open("/proc/self/oom_score_adj", "w") as score:
                score.write(FIRST_TO_GO)
        except OSError:
            pass  # it is a wish
    else:
        threading.Thread(target=_leave_when_orphaned, args=[worker], daemon=True).start()
    if os.getppid() != worker:  # it was gone before we asked
        os._exit(1)


def _leave_when_orphaned(worker: int) -> None:
    while os.getppid() == worker:
        time.sleep(ORPHAN_CHECK)
    os._exit(1)


if __name__ == "__main__":
    main()
