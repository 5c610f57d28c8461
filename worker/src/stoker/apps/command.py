"""A ready-made application that runs programs of its container: `stoker worker stoker.apps.command:app`.

One task, `command.run`. Which programs it may run is said by STOKER_COMMAND_ALLOW, and nothing else; without it the worker does not
start. There is no shell: the words of a payload reach the program as they are. docs/how-to/without-python.md tells users about it.
"""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from tempfile import TemporaryFile
from typing import BinaryIO, TypedDict

from msgspec import Struct

from stoker.app.app import Stoker
from stoker.errors import Dead, Invalid
from stoker.settings import PREFIX
from stoker.task.context import Context
from stoker.task.dependencies import State

ALLOW, ALLOW_ENV = "STOKER_COMMAND_ALLOW", "STOKER_COMMAND_ALLOW_ENV"
KEPT = 16 * 1024
"""Bytes of each stream's end that the result keeps."""
LOGGED_LINES, LOGGED_LINE = 1000, 2000
"""So many lines of output go to the log, each cut off at so many bytes."""
LEAVES_WITHIN, STREAMS_END_WITHIN = 5.0, 1.0
SHOWN = 500


class Finished(TypedDict):
    """How a program ended. Of `stdout` and `stderr` the last 16 KiB, as text."""

    code: int
    stdout: str
    stderr: str
    seconds: float


class ExitError(Exception):
    """The program ended with a code that is not among the good ones."""


class Programs(Struct, frozen=True):
    """What may be run: names that are looked up on the worker's PATH, or absolute paths; and which variables a payload may set."""

    names: frozenset[str]
    variables: frozenset[str]
    environment: Mapping[str, str]

    def path_of(self, name: str) -> str:
        """Where the program is. Raises Dead where it may not be run, or is not there."""
        if name not in self.names:
            raise Dead(f"{name[:SHOWN]!r} is not among the programs that this worker may run")
        found = shutil.which(name, path=self.environment.get("PATH"))
        if found is None:
            raise Dead(f"there is no program {name} in this container")
        return found

    def with_variables(self, extra: Mapping[str, str]) -> dict[str, str]:
        """The program's environment. Raises Dead for a variable that a payload may not set."""
        if strange := sorted(extra.keys() - self.variables):
            raise Dead(f"the variables {', '.join(strange)[:SHOWN]} are not among those that a payload may set")
        return {**self.environment, **extra}


@asynccontextmanager
async def lifespan(_app: Stoker) -> AsyncIterator[Programs]:
    """What one worker process may run. Raises Invalid where it is not said."""
    names = _words(ALLOW)
    if not names:
        raise Invalid(f"{ALLOW} is not set: name the programs that tasks may run, such as pg_dump,/usr/bin/ffmpeg")
    # Stoker's own settings hold the way to Redis: nothing for the programs that it runs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    yield Programs(names, _words(ALLOW_ENV), environment)


app = Stoker("command", lifespan=lifespan)


@app.task(name="command.run")
async def run(
    argv: list[str],
    ctx: Context,
    programs: State[Programs],
    stdin: str = "",
    env: dict[str, str] | None = None,
    timeout: float = 600.0,
    success: list[int] | None = None,
    dead: list[int] | None = None,
) -> Finished:
    """Run a program and keep the end of what it says. `timeout` in seconds; then it and its children are killed.

    Exit code 0 (or one of `success`) is a success; one of `dead` is buried at once, and so is what cannot be run at all. Any
    other code, a signal or the timeout is a failure, and tried again.
    """
    if not argv or any("\0" in word for word in argv):
        raise Dead("argv must be a list of words, the first of which names a program")
    command, environment = [programs.path_of(argv[0]), *argv[1:]], programs.with_variables(env or {})
    started = time.monotonic()
    streams = Streams(ctx)
    async with streams.open(stdin) as (told, out, err):
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                stdin=told,
                stdout=out,
                stderr=err,
                start_new_session=True,  # a group of its own, which can be killed as a whole
            )
        except (OSError, ValueError) as error:  # no right to run it, a variable that cannot be one
            raise Dead(f"{argv[0]} cannot be run: {error}") from error
        finally:
            streams.hand_over()
        try:
            async with asyncio.timeout(timeout):
                code = await process.wait()
        except TimeoutError as error:
            await _end(process)
            raise ExitError(f"{argv[0]} has not ended within {timeout:g} s{streams.last_words}") from error
        finally:
            # Also what it left running behind it, and all of it when the task is cancelled.
            _signal(process, signal.SIGKILL)
    finished = Finished(code=code, stdout=streams.out.text, stderr=streams.err.text, seconds=round(time.monotonic() - started, 3))
    ctx.log.info("ended", extra={"program": argv[0], "code": code, "seconds": finished["seconds"]})
    if code in (success or [0]):
        return finished
    words = f"{argv[0]} ended with {_named(code)}{streams.last_words}"
    raise Dead(words) if code in (dead or []) else ExitError(words)


class Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        self._bytes += data
        del self._bytes[:-KEPT]

    @property
    def text(self) -> str:
        return self._bytes.decode(errors="replace")


class Streams:
    """What a program is told and says. Lines are logged as they come; memory does not grow with them.

    The pipes are our own: asyncio's would let the program end only when all its children have closed theirs.
    """

    def __init__(self, ctx: Context) -> None:
        self.out, self.err = Tail(), Tail()
        self._ctx = ctx
        self._left = LOGGED_LINES
        self._handed: list[int] = []

    @asynccontextmanager
    async def open(self, stdin: str) -> AsyncIterator[tuple[BinaryIO, int, int]]:
        """The program's three ends. At exit the rest is heard; of a child that left the group, for no more than a moment."""
        async with AsyncExitStack() as stack:
            told = stack.enter_context(_in_memory())  # not a pipe: nobody need read it
            told.write(stdin.encode())
            told.seek(0)
            readers = [await self._listen(stack, tail, name) for tail, name in ((self.out, "stdout"), (self.err, "stderr"))]
            stack.callback(self.hand_over)
            yield told, self._handed[0], self._handed[1]
            _, deaf = await asyncio.wait(readers, timeout=STREAMS_END_WITHIN)
            for reader in deaf:
                reader.cancel()

    def hand_over(self) -> None:
        """The program has its ends: close ours of them, or the streams never end."""
        while self._handed:
            os.close(self._handed.pop())

    async def _listen(self, stack: AsyncExitStack, tail: Tail, name: str) -> asyncio.Task[None]:
        ours, its = os.pipe()
        self._handed.append(its)
        stream = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(ours, "rb", 0))
        stack.callback(transport.close)
        return asyncio.create_task(self._read(stream, tail, name))

    @property
    def last_words(self) -> str:
        """The end of what it said, for an error."""
        words = (self.err.text.strip() or self.out.text.strip())[-SHOWN:]
        return f": {words}" if words else ""

    async def _read(self, stream: asyncio.StreamReader, tail: Tail, name: str) -> None:
        line = bytearray()
        while data := await stream.read(16 * 1024):
            tail.add(data)
            if self._left <= 0:
                continue
            *whole, rest = data.split(b"\n")
            for part in whole:
                self._log(name, bytes(line[:LOGGED_LINE]) + part[: LOGGED_LINE - len(line)])
                line.clear()
            line += rest[: LOGGED_LINE - len(line)]
        if line:
            self._log(name, bytes(line))

    def _log(self, name: str, line: bytes) -> None:
        self._left -= 1
        if self._left >= 0:
            self._ctx.log.info(line.decode(errors="replace"), extra={"stream": name})
        if self._left == 0:
            self._ctx.log.warning("the rest of the output is not logged", extra={"lines": LOGGED_LINES})


def _in_memory() -> BinaryIO:
    """A file that needs no disk, where there may be none that can be written to."""
    return os.fdopen(os.memfd_create("stdin"), "w+b") if hasattr(os, "memfd_create") else TemporaryFile()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the whole group to end, and wait a moment for the program."""
    _signal(process, signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVES_WITHIN):
            await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _named(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _words(variable: str) -> frozenset[str]:
    return frozenset(os.environ.get(variable, "").replace(",", " ").split())
