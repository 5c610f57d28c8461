"""Pool of child processes: each imports the application, runs one plain function at a time, and can be killed alone.

Started fresh, never forked: the worker has threads. Each has its own socket, so that one that dies takes no other's messages
with it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from stoker.errors import StokerError
from stoker.queue.records import Delivery
from stoker.rules.settle import Failure, Outcome, Raised
from stoker.settings import ChildLimits
from stoker.task.context import ProgressSink
from stoker.telemetry.own_lines import handle_forwarded
from stoker.worker.children.protocol import (
    LENGTH,
    Begin,
    Broken,
    ForwardedRecord,
    FromChild,
    Ready,
    ReportedLine,
    ReportedProgress,
    RunEnded,
    RunTask,
    ToChild,
    frame,
    from_child,
)
from stoker.worker.run.deadline import Limits
from stoker.worker.system.aio import hidden

START_TIMEOUT = 120.0
READ_AFTER_EXIT = 0.2
"""Seconds after a child's end in which its last messages may still be read."""
_log = logging.getLogger("stoker.worker")


class NotStarted(StokerError):
    """A child could not be started, or could not import the application."""


class Child:
    """One child process, as the worker sees it."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.runs = 0
        self.memory = 0
        self.idle = True  # whether no run is under way in it
        self._process = process
        self._reader = reader
        self._writer = writer
        self._gone = hidden(asyncio.create_task(self._watch()))

    @classmethod
    async def start(cls, app: str, home: str) -> "Child":
        """Start one, in the directory `home`, and wait until it has imported the application. Raises NotStarted."""
        ours, its = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "stoker.worker.children.child", str(its.fileno()), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                cwd=home,
                pass_fds=[its.fileno()],
                start_new_session=True,  # a new process group: what a task starts dies with it, and Ctrl-C does not reach it
            )
        except OSError as error:
            ours.close()
            raise NotStarted(f"no process could be started: {error}") from error
        finally:
            its.close()
        child = cls(process, *await asyncio.open_unix_connection(sock=ours))
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await child.begin(app)
        except BaseException as error:
            await child.end()
            if isinstance(error, TimeoutError):
                raise NotStarted(f"the process did not import {app} within {START_TIMEOUT:g} s") from None
            raise
        return child

    @property
    def pid(self) -> int:
        """Its process id, also that of its process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self._gone.done()

    async def begin(self, app: str) -> None:
        """Have it import the application. Raises NotStarted with its error."""
        try:
            self._send(Begin(app, sys.path, logging.getLogger().getEffectiveLevel(), _log.getEffectiveLevel()))
            answer = await self._answer()
        except (asyncio.IncompleteReadError, ConnectionError):
            raise NotStarted(f"the process {await self._cause_of_death()} while it imported {app}") from None
        if isinstance(answer, Broken):
            raise NotStarted(answer.why)

    async def run(
        self, delivery: Delivery, trace: dict[str, str], limits: Limits, max_retries: int, sink: ProgressSink | None
    ) -> Outcome:
        """RunTask one task within its limits; its progress goes to `sink`.

        After a cancellation the child must be killed: it is not `idle` then.
        """
        self.idle = False
        try:
            self._send(RunTask(delivery, trace, limits.first, limits.soft, max_retries))
            answer = await self._answer(delivery.fence, sink)
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            return Raised(Failure("ProcessDied", f"the task's process {await self._cause_of_death()}"))
        if not isinstance(answer, RunEnded):
            return Raised(
                Failure("ProcessDied", "the task's process broke the protocol")
            )  # a task that wrote to our socket, perhaps
        self.idle, self.runs, self.memory = True, self.runs + 1, answer.memory
        return answer.outcome

    def kill(self) -> None:
        """Kill it, and all that its tasks have started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill it, and wait for its end."""
        self.kill()
        await self._gone
        self._writer.transport.abort()

    def _send(self, body: ToChild) -> None:
        self._writer.write(frame(body))

    async def _answer(self, fence: str = "", sink: ProgressSink | None = None) -> Ready | Broken | RunEnded:
        while True:
            [length] = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            body: FromChild = from_child.decode(await self._reader.readexactly(length))
            match body:
                case ForwardedRecord(record):
                    handle_forwarded(logging.makeLogRecord(record))
                case ReportedLine() | ReportedProgress():
                    if sink and body.fence == fence:  # a thread may have outlived its run
                        body.apply(sink)
                case _:
                    return body

    async def _watch(self) -> None:
        await self._process.wait()
        # A process that the task started may hold the socket open, so that no end of file comes.
        asyncio.get_running_loop().call_later(READ_AFTER_EXIT, self._writer.transport.abort)

    async def _cause_of_death(self) -> str:
        self.kill()  # should it still live: without its socket it is of no use
        code = await self._process.wait()
        if code >= 0:
            return f"ended itself with exit code {code}"
        name = signal.Signals(-code).name
        hint = " (perhaps by the kernel: out of memory)" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"


class ProcessPool:
    """At most `limits.count` children (else one per slot), started on demand. Belongs to one event loop."""

    def __init__(self, app: str, limits: ChildLimits, slots: int) -> None:
        self._app = app
        self._home = os.getcwd()  # before a task changes it
        self._limits = limits
        self._room = asyncio.Semaphore(limits.count or slots)
        self._idle: list[Child] = []
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def child(self) -> AsyncIterator[Child]:
        """A child for one run; killed when the run did not end. Raises NotStarted."""
        async with self._room:
            child = self._take() or await self._start()
            try:
                yield child
            finally:
                self._put_back(child)

    async def close(self) -> None:
        """Kill all children."""
        for child in self._idle:
            self._end(child)
        self._idle.clear()
        await asyncio.gather(*self._ending)

    def _take(self) -> Child | None:
        while self._idle:
            # The one used last: its pages are warm.
            if (child := self._idle.pop()).alive:
                return child
            self._end(child)
        return None

    async def _start(self) -> Child:
        if not self._app:
            raise NotStarted("a child process imports the application: run the worker as `stoker worker module:attribute`")
        child = await Child.start(self._app, self._home)
        _log.info("child process started", extra={"pid": child.pid})
        return child

    def _put_back(self, child: Child) -> None:
        if not child.idle or not child.alive:
            self._end(child)
        elif self._limits.worn(child.runs, child.memory):
            _log.info("child process recycled", extra={"pid": child.pid, "runs": child.runs, "memory": child.memory})
            self._end(child)
        else:
            self._idle.append(child)

    def _end(self, child: Child) -> None:
        child.kill()
        task = hidden(asyncio.create_task(child.end()))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
