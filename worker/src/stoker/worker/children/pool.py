"""The worker's child processes: each imports the application by itself, runs one plain function at a time, and can be killed alone.

Made fresh and never forked from the worker, whose threads a fork would tear. A socket for each, so that one that dies takes
nobody's words with it.
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
from stoker.task.context import Account
from stoker.worker.children.protocol import (
    LENGTH,
    Begin,
    Broken,
    Ended,
    FromChild,
    Line,
    Ready,
    Run,
    Said,
    Step,
    ToChild,
    frame,
    from_child,
)
from stoker.worker.run.deadline import Limits

STARTS_WITHIN = 120.0
LAST_WORDS = 0.2
"""Seconds after a child's end in which what it sent last may still be read."""
_log = logging.getLogger("stoker.worker")


class NotStarted(StokerError):
    """A child could not be started, or could not import the application."""


class Child:
    """One child process, from this side."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.runs = 0
        self.memory = 0
        self.fresh = True  # whether nothing is under way in it
        self._process = process
        self._reader = reader
        self._writer = writer
        self._gone = asyncio.create_task(self._watch())

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
                start_new_session=True,  # a group of its own: what a task starts dies with it, and Ctrl-C does not reach it
            )
        except OSError as error:
            ours.close()
            raise NotStarted(f"no process could be started: {error}") from error
        finally:
            its.close()
        child = cls(process, *await asyncio.open_unix_connection(sock=ours))
        try:
            async with asyncio.timeout(STARTS_WITHIN):
                await child.begin(app)
        except BaseException as error:
            await child.end()
            if isinstance(error, TimeoutError):
                raise NotStarted(f"the process did not import {app} within {STARTS_WITHIN:g} s") from None
            raise
        return child

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self._gone.done()

    async def begin(self, app: str) -> None:
        """Have it import the application. Raises NotStarted with its complaint."""
        try:
            self._send(Begin(app, sys.path, logging.getLogger().getEffectiveLevel()))
            answer = await self._answer()
        except (asyncio.IncompleteReadError, ConnectionError):
            raise NotStarted(f"the process {await self._obituary()} while it imported {app}") from None
        if isinstance(answer, Broken):
            raise NotStarted(answer.why)

    async def run(self, delivery: Delivery, trace: dict[str, str], limits: Limits, account: Account | None) -> Outcome:
        """Run one task, which is told its limits; what it tells of itself goes to its account.

        Whoever gives this up has to kill the child: it is not fresh then.
        """
        self.fresh = False
        try:
            self._send(Run(delivery, trace, limits.told, limits.soft))
            answer = await self._answer(delivery.fence, account)
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.MsgspecError):
            return Raised(Failure("ProcessDied", f"the task's process {await self._obituary()}"))
        if not isinstance(answer, Ended):
            return Raised(Failure("ProcessDied", "the task's process lost its place"))  # a task that wrote to our socket, perhaps
        self.fresh, self.runs, self.memory = True, self.runs + 1, answer.memory
        return answer.outcome

    def kill(self) -> None:
        """End it now, and all that its tasks have started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill it and wait for that."""
        self.kill()
        await self._gone
        self._writer.transport.abort()

    def _send(self, body: ToChild) -> None:
        self._writer.write(frame(body))

    async def _answer(self, fence: str = "", account: Account | None = None) -> Ready | Broken | Ended:
        while True:
            [length] = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            body: FromChild = from_child.decode(await self._reader.readexactly(length))
            match body:
                case Said(record):
                    # The handlers of the child's own loggers have had it; the root's are the worker's.
                    logging.getLogger().handle(logging.makeLogRecord(record))
                case Line() | Step():
                    if account and body.fence == fence:  # a thread may have outlived the run it belongs to
                        body.tell(account)
                case _:
                    return body

    async def _watch(self) -> None:
        await self._process.wait()
        # Something that the task started may hold the socket open, so that its end alone says nothing.
        asyncio.get_running_loop().call_later(LAST_WORDS, self._writer.transport.abort)

    async def _obituary(self) -> str:
        self.kill()  # without its socket it is of no use, should it live still
        code = await self._process.wait()
        if code >= 0:
            return f"ended itself with exit code {code}"
        name = signal.Signals(-code).name
        hint = " (perhaps by the kernel, for want of memory)" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"


class ProcessPool:
    """At most so many children, started when they are first needed. Belongs to one event loop."""

    def __init__(self, app: str, limits: ChildLimits, slots: int) -> None:
        self._app = app
        self._home = os.getcwd()  # before a task goes elsewhere
        self._limits = limits
        self._room = asyncio.Semaphore(limits.count or slots)
        self._idle: list[Child] = []
        self._ending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def child(self) -> AsyncIterator[Child]:
        """A child for one run. One that is left in the middle of it is killed. Raises NotStarted."""
        async with self._room:
            child = self._take() or await self._start()
            try:
                yield child
            finally:
                self._put_back(child)

    async def close(self) -> None:
        """End all."""
        for child in self._idle:
            self._end(child)
        self._idle.clear()
        await asyncio.gather(*self._ending)

    def _take(self) -> Child | None:
        while self._idle:
            # The last used one: its pages are warm, and the others stay idle.
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
        if not child.fresh or not child.alive:
            self._end(child)
        elif self._limits.worn(child.runs, child.memory):
            _log.info("child process recycled", extra={"pid": child.pid, "runs": child.runs, "memory": child.memory})
            self._end(child)
        else:
            self._idle.append(child)

    def _end(self, child: Child) -> None:
        child.kill()
        task = asyncio.create_task(child.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
